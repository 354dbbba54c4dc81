/* store_schema.c: the schema of the database, and bringing an older file up to it.
 *
 * The files of schema/ lie in the binary. PRAGMA user_version is the number of the last one that
 * was applied; each is applied in one transaction together with its number, so a file is always at
 * exactly one of them. PRAGMA application_id says that a file is ours. To change the schema, add
 * the next file and its row here. */
#include "store_private.h"

#include <stdio.h>

/* One row a file: its number in three digits, and its name. */
#define MIGRATIONS(X)                                                                              \
    X(001, "001_init.sql")                                                                         \
    X(002, "002_answers.sql")                                                                      \
    X(003, "003_aliases.sql")                                                                      \
    X(004, "004_late_metrics.sql")                                                                 \
    X(005, "005_signals.sql")                                                                      \
    X(006, "006_who.sql")                                                                          \
    X(007, "007_deeds.sql")                                                                        \
    X(008, "008_answers_order.sql")

#define MIGRATION_EMBED(number, file)                                                              \
    __asm__(".pushsection .rodata\n"                                                               \
            "store_sql_" #number ":\n"                                                             \
            ".incbin \"schema/" file "\"\n"                                                        \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char store_sql_##number[] __attribute__((visibility("hidden")));
MIGRATIONS(MIGRATION_EMBED)

#define MIGRATION_ROW(number, file) {1##number - 1000, file, store_sql_##number},
const struct store_migration store_migrations[] = {MIGRATIONS(MIGRATION_ROW)};
const int store_n_migrations = sizeof store_migrations / sizeof *store_migrations;

int store_schema_inspect(struct db *db, enum store_kind *kind_r, int *version_r, struct error *e)
{
    int64_t id = 0, version = 0, tables = 0;
    if (db_integer(db, e, &id, "PRAGMA application_id", "") < 0 ||
        db_integer(db, e, &version, "PRAGMA user_version", "") < 0 ||
        db_integer(db, e, &tables, "SELECT count(*) FROM sqlite_schema", "") < 0)
        return -1;
    *version_r = (int)version;
    if (id == STORE_APPLICATION_ID)
        *kind_r = STORE_OURS;
    else
        *kind_r = id || version || tables ? STORE_FOREIGN : STORE_NEW;
    return 0;
}

static int apply(struct db *db, const struct store_migration *m, struct error *e)
{
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             STORE_APPLICATION_ID, m->version);
    if (db_begin(db, true, e))
        return -1;
    int result = db_exec(db, m->sql, e) || db_exec(db, stamp, e);
    if (!db_end(db, result, e))
        return 0;
    return error_prefix(e, "schema/%s", m->name);
}

int store_schema_migrate(struct db *db, int version, const struct store_migration *table, int n,
                         struct error *e)
{
    for (int i = 0; i < n; i++)
        if (table[i].version > version && apply(db, &table[i], e))
            return -1;
    return 0;
}
