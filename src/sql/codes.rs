//! The codes of what can be wrong with a query: M04xx.

use crate::model::diagnostic::{Code, CodeDoc};

pub const SYNTAX: Code = Code("M0401");
pub const TOO_LARGE: Code = Code("M0402");
pub const UNSUPPORTED: Code = Code("M0403");
pub const UNKNOWN_RELATION: Code = Code("M0404");
pub const UNKNOWN_COLUMN: Code = Code("M0405");
pub const AMBIGUOUS: Code = Code("M0406");
pub const UNKNOWN_FUNCTION: Code = Code("M0407");
pub const TYPE_MISMATCH: Code = Code("M0408");
pub const NAMES: Code = Code("M0409");
pub const JOIN: Code = Code("M0410");
pub const GROUPING: Code = Code("M0411");
pub const RESULT: Code = Code("M0412");
pub const NOT_DETERMINISTIC: Code = Code("M0413");
pub const UNREADABLE_COLUMN: Code = Code("M0414");
pub const NEVER_TRUE: Code = Code("M0415");

/// What `mesh explain CODE` says of each.
pub const ALL: &[CodeDoc] = &[
    CodeDoc {
        code: SYNTAX,
        title: "the SQL cannot be parsed",
        explanation: "A derivation is one SELECT in standard SQL, with an optional semicolon at its end:\n\n  \
            SELECT station_id, capacity FROM stations_info WHERE capacity > 10\n\n\
            Text stands in single quotes ('a'), names that need quoting in double quotes (\"a name\").",
    },
    CodeDoc {
        code: TOO_LARGE,
        title: "the SQL is too large or too deep",
        explanation: "A query's text, its nesting and the length of its expressions are bounded, so that no text can \
            exhaust the machine. Split the query into several products, each of which reads the one before, or write \
            a long chain of OR as `x IN (1, 2, 3)`.",
    },
    CodeDoc {
        code: UNSUPPORTED,
        title: "a form of SQL that is not carried out",
        explanation: "Nothing in a query is ignored: what is not carried out is refused at its place, with a form that works. \
            A query is a SELECT, or several with UNION, with sub-queries in FROM and in WITH. What would need sorting or cutting \
            a stream that never ends (ORDER BY, LIMIT) has no meaning here: the first rows of each part of it are\n\n  \
            SELECT station_id, capacity FROM stations_info\n  \
            QUALIFY ROW_NUMBER() OVER (PARTITION BY region_id ORDER BY capacity DESC) <= 3\n\n\
            Sub-queries stand in FROM only: write a JOIN for IN and EXISTS.",
    },
    CodeDoc {
        code: UNKNOWN_RELATION,
        title: "no product of that name",
        explanation: "FROM and JOIN name data products as in their manifests, with underscores for hyphens: \
            `stations_enriched` finds `stations-enriched`. Quotes work too: \"stations-enriched\".",
    },
    CodeDoc {
        code: UNKNOWN_COLUMN,
        title: "no such column",
        explanation: "The column stands in none of the relations of FROM. Columns are those of the products' contracts, \
            and `rowtime`, the event time of each row.",
    },
    CodeDoc {
        code: AMBIGUOUS,
        title: "a name that more than one relation has",
        explanation: "Write the relation's alias before the column: `info.name` instead of `name`.",
    },
    CodeDoc {
        code: UNKNOWN_FUNCTION,
        title: "no such function",
        explanation: "The functions are those of docs/sql.md. They follow PostgreSQL, roughly; `latest(x)` and \
            `earliest(x)` give the value of the newest and of the oldest row of a group, \
            `geo_distance(lat1, lon1, lat2, lon2, 'km')` the distance of two points on earth.",
    },
    CodeDoc {
        code: TYPE_MISMATCH,
        title: "types that do not fit",
        explanation: "An operator or a function was given values of types that it has no meaning for. Numbers mix \
            freely; text and numbers, or text and booleans, do not: write CAST(x AS BIGINT) or CAST(x AS STRING).",
    },
    CodeDoc {
        code: NAMES,
        title: "the result's columns need names of their own",
        explanation: "Each column of a result has one name that no other has, since it becomes a field of the product. \
            Name expressions with AS, and leave duplicates of a join out: `SELECT a.*, b.name AS b_name`.",
    },
    CodeDoc {
        code: JOIN,
        title: "a join that cannot be carried out",
        explanation: "The shapes of the two sides decide what a join means. A stream joins a table on the table's whole \
            key: each row meets the table's row as of its own time. A table joins a table on both whole keys. A stream \
            joins a stream on equal columns and within a bound of time, since no stream can be kept for ever:\n\n  \
            a JOIN b ON a.id = b.id AND a.rowtime BETWEEN b.rowtime - INTERVAL '1' MINUTE AND b.rowtime + INTERVAL '1' MINUTE",
    },
    CodeDoc {
        code: GROUPING,
        title: "a column that is neither grouped nor aggregated",
        explanation: "With GROUP BY, each column of the result is one of the grouped ones or stands inside an aggregate: \
            `SELECT region_id, count(*) AS stations, latest(name) AS last_name FROM s GROUP BY region_id`.",
    },
    CodeDoc {
        code: RESULT,
        title: "the result does not fit the product",
        explanation: "A product says whether it is a stream or a table, and what its key is; the query must give just that. \
            A table needs one row for each key: GROUP BY the key, for instance with latest(x), or read a table; a table under \
            another key than its own has the last row of each. A stream needs rows that are never taken back.",
    },
    CodeDoc {
        code: NOT_DETERMINISTIC,
        title: "a function whose result is not determined by its input",
        explanation: "The same input must always give the same result, also when a derivation is run again over old \
            records. Use `rowtime`, the event time of the row, instead of now() and its relatives.",
    },
    CodeDoc {
        code: UNREADABLE_COLUMN,
        title: "a column whose type cannot be read",
        explanation: "The contract describes the column in a way that has no column type (for instance a choice of \
            several types). Leave it out of the query, or `SELECT * EXCEPT (column)`.",
    },
    CodeDoc {
        code: NEVER_TRUE,
        title: "a comparison that is never true",
        explanation: "Nothing is equal to NULL, not even NULL: `x = NULL` is never true. Write `x IS NULL`, \
            `x IS NOT NULL`, or `x IS NOT DISTINCT FROM y`.",
    },
];
