#!/usr/bin/env python3
"""Where fuzzing begins: writes inputs for every target to FOLDER/NAME/, from the texts and files of the tests.

    python3 tests/fuzz/seeds.py build-fuzz/seeds

Run from the top of the repository. run.sh --minimise then keeps in tests/fuzz/corpus what reaches code that nothing
smaller does. Needs gcc, whose preprocessor joins what the tests build of macros."""
import ast
import glob
import hashlib
import json
import os
import re
import struct
import subprocess
import sys

LITERAL = r'"(?:[^"\\\n]|\\.)*"'
MAX_BYTES = 4096


def texts(*patterns):
    """All string literals of C files, adjacent ones joined."""
    for path in (p for pattern in patterns for p in sorted(glob.glob(pattern))):
        source = subprocess.run(['gcc', '-E', '-P', '-Iengine', path], capture_output=True, text=True).stdout
        for run in re.findall(rf'{LITERAL}(?:\s*{LITERAL})*', source):
            try:
                yield ''.join(ast.literal_eval('b' + part).decode('latin-1') for part in re.findall(LITERAL, run))
            except (SyntaxError, ValueError):
                continue


def json_texts(*patterns):
    for text in texts(*patterns):
        if text.startswith(('{', '[')):
            yield text.encode('latin-1')
            yield text.replace("'", '"').encode('latin-1')


def files(*patterns):
    for path in (p for pattern in patterns for p in sorted(glob.glob(pattern))):
        with open(path, 'rb') as f:
            yield f.read()


def tensors():
    for text in json_texts('tests/unit/test_tensor.c', 'tests/http/test_binary.c', 'tests/http/test_infer.c'):
        for body in (text, b'{"inputs":%s}' % text):
            yield b'\0' + body
            for tail in (b'', bytes(range(32)), b'\4\0\0\0abcd'):
                yield b'\1' + struct.pack('<H', len(body)) + body + tail
    head = b'{"inputs":[{"name":"x","shape":[2,4],"datatype":"%s","parameters":{"binary_data_size":%d}}]}'
    for name, size in ((b'FP32', 4), (b'FP64', 8), (b'FP16', 2), (b'BF16', 2), (b'INT64', 8), (b'UINT64', 8),
                       (b'INT8', 1), (b'UINT8', 1), (b'BOOL', 1), (b'INT16', 2), (b'UINT32', 4)):
        body = head % (name, 8 * size)
        yield b'\1' + struct.pack('<H', len(body)) + body + bytes(i % 2 for i in range(8 * size))
    yield b'\1\0\0' + bytes(16)


def requests():
    paths = {t for t in texts('server/routes.c', 'tests/unit/test_dispatch.c') if re.fullmatch(r'/\S*', t)}
    headers = ('', 'Host: example.org\nOrigin: https://example.org\n', 'Origin: null\nHost: [::1]:8080\n',
               'Content-Type: application/json\nContent-Length: 12\nContent-Encoding: gzip\n',
               'Content-Type: text/plain\nTransfer-Encoding: chunked\nHost: evil.com\n',
               'Origin: http://a.example.com:3000\nAccess-Control-Request-Method: PUT\nHost: a.example.com\n')
    queries = ('', '?since=7&max_points=%31', '?mode=train&values=1&name=a+b%20c', '?limit=-1&&since', '?x=%zz')
    for i, path in enumerate(sorted(paths)):
        path = re.sub(r'\{\w+\}', 'm', path)
        for j, method in enumerate(('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS')):
            yield f'{method} {path}{queries[(i + j) % 5]}\n{headers[(i * 5 + j) % 6]}'.encode('latin-1')


def forms():
    png, = files('tests/data/images/gray.png')
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n%s\r\n'
    end = b'--b--\r\n'
    image = part % (b'image', b'; filename="a.png"', b'Content-Type: image/png\r\n', png[:64])
    request = part % (b'json', b'', b'', b'{"parameters":{"top_k":3},"data":[1,2]}')
    for body in (image + end, image + request + end, request + end, request + image + image + end, image, end,
                 image.replace(b'form-data', b'attachment') + end, b'preamble\r\n' + image + end,
                 part % (b'other', b'', b'', b'x') + end, request.replace(b'{', b'[') + end):
        yield b'multipart/form-data; boundary=b\n' + body
        yield b'Multipart/Form-Data; charset="x"; boundary="b"\n' + body.replace(b'\r\n\r\n', b'\r\n', 1)
    yield b'image/png\n' + png[:64]
    yield b'application/octet-stream\n' + png[:64]
    yield b'multipart/form-data\n' + end


def images():
    yield from (data for data in files('tests/data/images/*.png', 'tests/data/images/*.jpg'))
    for order, number in ((b'II', '<'), (b'MM', '>')):
        for orientation in (1, 3, 6, 8, 9):
            yield order + struct.pack(number + 'HIHHHIHH', 42, 8, 1, 0x112, 3, 1, orientation, 0)


def safetensors():
    yield from files('tests/data/safetensors/*.safetensors', 'tests/data/safetensors/*/*.safetensors')
    for text in texts('tests/unit/test_safetensors.c'):
        if text.startswith('{'):
            text = text.encode('latin-1')
            yield struct.pack('<Q', len(text)) + text + bytes(64)


def logs():
    for first in (0, 3, 7, 0x47, 0x25):
        for what in range(4):
            for place in (0, 9, 60, 75, 80, 100, 140):
                yield bytes([first, what]) + struct.pack('<HB', place, 40 + what)


def boxes():
    for text in json_texts('tests/unit/test_coco.c', 'tests/http/test_detector.c'):
        yield text
    for text in files('tests/data/coco_eval/*.json'):
        whole = json.loads(text)
        body = {k: whole[k] for k in ('ground_truth', 'detections') if k in whole}
        yield json.dumps(body, separators=(',', ':')).encode()
    truth = '{"ground_truth":{"images":[{"id":1},{"id":2}],"categories":[{"id":1},{"id":5}],"annotations":[' \
            '{"id":1,"image_id":1,"category_id":1,"bbox":[0,0,10,10],"area":100,"iscrowd":0},' \
            '{"id":2,"image_id":2,"category_id":5,"bbox":[5,5,50,60],"area":3000,"iscrowd":1,' \
            '"segmentation":[[1,2,3]]}]},"detections":[' \
            '{"image_id":1,"category_id":1,"bbox":[1,1,10,10],"score":0.9},' \
            '{"image_id":2,"category_id":5,"bbox":[5,5,50,50],"score":0.5}]%s}'
    for rest in ('', ',"protocol":"voc"', ',"protocol":"voc2007","inclusive_pixels":false', ',"protocol":"ultralytics"',
                 ',"protocol":"ultralytics-legacy","iou_thresholds":[0.5,0.75]', ',"curves":false,"iou_thresholds":[1]'):
        yield (truth % rest).encode()
    yield (truth % '').replace('0.9', 'NaN').encode()


TARGETS = {
    'json': lambda: (t for pattern in ('tests/unit/test_json_in.c', 'tests/unit/test_number.c') for x in texts(pattern)
                     for t in (x.encode('latin-1'), b'{"data":[%s]}' % x.encode('latin-1'))
                     if re.match(rb'[\[{]', t) and re.search(rb'\d|data', t)),
    'describe': lambda: (t for t in json_texts('tests/unit/test_describe.c', 'tests/unit/test_templates.c',
                                               'tests/unit/test_golden_both.c', 'tests/http/test_*.c',
                                               'tests/support/remote.c')
                         if re.search(rb'layers|template', t)),
    'expression': lambda: (t.encode('latin-1') for t in texts('tests/unit/test_expression.c') if '%' not in t),
    'tensor': tensors,
    'safetensors': safetensors,
    'route': requests,
    'coco': boxes,
    'form': forms,
    'image': images,
    'redo': logs,
}


def main():
    for name, seeds in TARGETS.items():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        for data in {data for data in seeds() if 0 < len(data) <= MAX_BYTES}:
            with open(os.path.join(folder, hashlib.sha1(data).hexdigest()[:12]), 'wb') as f:
                f.write(data)
        print(f'{name}: {len(os.listdir(folder))} seeds')


main()
