-- wire.lua: one request over and over, for wrk; prints what it measured as one line of JSON.
--   wrk ... -s wire.lua http://HOST:PORT -- PATH [BODY-FILE [LENGTH-OF-ITS-JSON]]
-- With a length the body is JSON with binary tensors behind it.
function init(args)
   wrk.path = args[1]
   if args[2] then
      local f = assert(io.open(args[2], "rb"))
      wrk.method = "POST"
      wrk.headers["Content-Type"] = "application/json"
      wrk.body = f:read("*a")
      f:close()
   end
   if args[3] then
      wrk.headers["Content-Type"] = "application/octet-stream"
      wrk.headers["Inference-Header-Content-Length"] = args[3]
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      '\n{"requests":%d,"seconds":%.6f,"p50":%.1f,"p99":%.1f,"p999":%.1f,"errors":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
