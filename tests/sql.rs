//! Queries as text files: SQL in, the typed query or what is wrong with it out (`tests/sql/*.txt`).
//!
//! `MESH_UPDATE=1 cargo test --test sql` writes what came out into the files, for review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "sql/functions.rs"]
mod functions;
mod types;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::create_physical_expr;

use mesh::model::diagnostic::{Diagnostic, Severity};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::query::{Changes, Node, Query};
use mesh::sql::{Relation, Relations, Target, bind, reads};
use proptest::prelude::*;
use types::data_type;

#[derive(Debug, Default)]
struct Products(BTreeMap<String, Arc<Relation>>);

impl Relations for Products {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).or_else(|| self.0.get(&name.replace('_', "-"))).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| name.replace('-', "_")).collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql")
}

/// Reads `relations.txt`.
fn products() -> Products {
    let text = std::fs::read_to_string(folder().join("relations.txt")).unwrap();
    let mut products: Vec<(Relation, Vec<Field>)> = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        if let Some(column) = line.strip_prefix("  ") {
            let (relation, fields) = products.last_mut().unwrap();
            let (name, rest) = column.split_once(' ').unwrap();
            match rest.strip_prefix("unsupported: ") {
                Some(reason) => relation.unsupported.push((name.into(), reason.into())),
                None => {
                    let (t, nullable) = rest.strip_suffix(" NOT NULL").map_or((rest, true), |t| (t, false));
                    fields.push(Field::new(name, data_type(t), nullable));
                }
            }
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let option = |name: &str| words.iter().position(|w| *w == name).map(|at| words[at + 1]);
        let relation = Relation {
            product: words[1].into(),
            row_type: Arc::new(Schema::empty()),
            unsupported: Vec::new(),
            shape: if words[0] == "table" { Shape::Table } else { Shape::Stream },
            key: option("key").into_iter().flat_map(|k| k.split(',')).map(str::to_string).collect(),
            time_field: option("time").unwrap_or("rowtime").into(),
            disorder_ms: option("disorder").map_or(0, |ms| ms.parse().unwrap()),
        };
        products.push((relation, Vec::new()));
    }
    let named = products.into_iter().map(|(relation, fields)| {
        let row_type = Arc::new(Schema::new(fields));
        (relation.product.clone(), Arc::new(Relation { row_type, ..relation }))
    });
    Products(named.collect())
}

fn sql_text(text: &str) -> SqlText {
    SqlText { text: text.into(), origin: SqlOrigin::Whole { file: "query.sql".into() } }
}

/// A diagnostic as golden files have it: where, the text at that place, the message and the help.
fn shown(diagnostic: &Diagnostic, sql: &str) -> String {
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let at = |place: &mesh::model::Place| {
        let line = sql[..place.start].matches('\n').count() + 1;
        let column = sql[..place.start].rsplit('\n').next().unwrap().chars().count() + 1;
        format!("{line}:{column} `{}`", sql[place.start..place.end].split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let place = diagnostic.place.as_ref().map_or("nowhere".into(), at);
    let mut out = format!("{severity} {} at {place}\n  {}\n", diagnostic.code, diagnostic.message);
    for (place, label) in &diagnostic.related {
        writeln!(out, "  {label}: {}", at(place)).unwrap();
    }
    if let Some(help) = &diagnostic.help {
        writeln!(out, "  help: {help}").unwrap();
    }
    out
}

/// Every expression of a query can be compiled, and has the type that the node's schema says.
fn compiles(query: &Query, node: &Node) {
    let compile = |expr: &datafusion_expr::Expr, schema: &datafusion_common::DFSchema| {
        let compiled = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default());
        let compiled = compiled.unwrap_or_else(|e| panic!("{expr} does not compile: {e}\n{query}"));
        compiled.data_type(schema.as_arrow()).unwrap()
    };
    match node {
        Node::Scan { input, schema, .. } => {
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let input = &query.inputs[*input];
            let expected: Vec<&str> = input.row_type.fields().iter().map(|f| f.name().as_str()).chain(["rowtime"]).collect();
            assert_eq!(columns, expected);
        }
        Node::Filter { input, predicate } => {
            assert_eq!(compile(predicate, input.schema()), DataType::Boolean);
            compiles(query, input);
        }
        Node::Project { input, columns, schema, .. } => {
            for (expr, field) in columns.iter().zip(schema.fields()) {
                assert_eq!(compile(expr, input.schema()), *field.data_type(), "{expr}");
            }
            compiles(query, input);
        }
        Node::Aggregate { input, group, aggregates, schema, .. } => {
            for (expr, field) in group.iter().zip(schema.fields()) {
                assert_eq!(compile(expr, input.schema()), *field.data_type(), "{expr}");
            }
            for argument in aggregates.iter().flat_map(|a| a.expressions()) {
                compile(argument, input.schema());
            }
            assert_eq!(schema.fields().len(), group.len() + aggregates.len());
            compiles(query, input);
        }
        Node::LookupJoin { stream: left, table: right, on, residual, schema, .. }
        | Node::IntervalJoin { left, right, on, residual, schema, .. }
        | Node::TableJoin { left, right, on, residual, schema, .. } => {
            for on in on {
                assert_eq!(compile(&on.left, left.schema()), compile(&on.right, right.schema()));
            }
            if let Some(residual) = residual {
                assert_eq!(compile(residual, schema), DataType::Boolean);
            }
            assert_eq!(schema.fields().len(), left.schema().fields().len() + right.schema().fields().len());
            compiles(query, left);
            compiles(query, right);
        }
        _ => {
            let inputs = node.inputs();
            if let [input] = inputs.as_slice() {
                node.expressions().into_iter().for_each(|expr| drop(compile(expr, input.schema())));
            }
            inputs.into_iter().for_each(|input| compiles(query, input));
        }
    }
}

/// What binding a query gives, as text.
fn outcome(sql: &str, target: &str, products: &Products) -> String {
    let mut words = target.split_whitespace();
    let shape = if words.next() == Some("table") { Shape::Table } else { Shape::Stream };
    let key: Vec<String> = words.map(str::to_string).collect();
    let (query, diagnostics) = bind(&sql_text(sql), products, &Target { shape, key: &key });
    let mut out: String = diagnostics.iter().map(|d| shown(d, sql)).collect();
    if let Some(query) = query {
        compiles(&query, &query.root);
        out += &query.to_string();
    }
    out
}

#[test]
fn golden_files() {
    let products = products();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    let mut cases = 0;
    let other = ["relations.txt", "functions.txt"];
    let golden = |f: &Path| f.extension().is_some_and(|e| e == "txt") && !other.iter().any(|o| f.ends_with(o));
    for file in files.iter().filter(|f| golden(f)) {
        let text = std::fs::read_to_string(file).unwrap();
        let mut parts = text.split("\n== ");
        let mut rewritten = parts.next().unwrap().to_string();
        for part in parts {
            cases += 1;
            let (head, rest) = part.split_once('\n').unwrap();
            let (sql, expected) = rest.split_once("\n----\n").unwrap_or((rest.trim_end(), ""));
            let (name, target) = head.split_once(" -> ").unwrap_or((head, "stream"));
            let actual = outcome(sql, target, &products);
            write!(rewritten, "\n== {head}\n{sql}\n----\n{actual}").unwrap();
            if actual.trim_end() != expected.trim_end() {
                wrong.push(format!("{}: {name}\n{sql}\nexpected\n{expected}\nwas\n{actual}", file.display()));
            }
        }
        if std::env::var_os("MESH_UPDATE").is_some() {
            std::fs::write(file, rewritten.trim_end().to_string() + "\n").unwrap();
        }
    }
    assert!(cases > 0);
    assert!(wrong.is_empty() || std::env::var_os("MESH_UPDATE").is_some(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first diagnostic's code of a query that must be refused, whatever the stack of the thread.
fn refused(sql: &str) -> String {
    let products = products();
    let (query, diagnostics) = bind(&sql_text(sql), &products, &Target { shape: Shape::Stream, key: &[] });
    assert!(query.is_none());
    diagnostics.first().map(|d| format!("{} {}", d.code, d.message)).unwrap_or_default()
}

fn accepted(sql: &str) {
    let products = products();
    let (query, diagnostics) = bind(&sql_text(sql), &products, &Target { shape: Shape::Stream, key: &[] });
    assert!(query.is_some(), "{diagnostics:?}");
    let query = query.unwrap();
    compiles(&query, &query.root);
}

#[test]
fn nothing_is_too_deep_for_the_stack() {
    let select = |expr: &str| format!("SELECT {expr} AS x FROM stations_status");
    let too_deep = "M0402 the query nests more than 50 deep";
    let too_long = "M0402 an expression chains more than 1000 operators or parentheses";
    assert_eq!(refused(&select(&format!("{}1{}", "(".repeat(500), ")".repeat(500)))), too_deep);
    assert_eq!(refused(&select(&format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)))), too_long);
    assert_eq!(refused(&select(&format!("{}1{}", "abs(".repeat(10_000), ")".repeat(10_000)))), too_long);
    assert!(refused(&select(&format!("{}1{}", "CASE WHEN true THEN ".repeat(500), " END".repeat(500)))).starts_with("M040"));
    assert_eq!(refused(&select(&format!("{}1", "NOT ".repeat(10_000)))), too_long);
    assert_eq!(refused(&select(&format!("{}1", "- ".repeat(10_000)))), too_long);
    assert_eq!(refused(&select(&vec!["1"; 20_000].join(" + "))), too_long);
    assert_eq!(refused(&select(&format!("1{}", " IS NULL".repeat(10_000)))), too_long);
    assert_eq!(refused(&select(&format!("1{}", "::INT".repeat(10_000)))), too_long);
    assert_eq!(refused(&select(&vec!["a = 1"; 10_000].join(" OR "))), too_long);
    assert_eq!(refused(&select(&vec!["1"; 500].join(" + "))), "M0402 the expression nests 500 deep, more than 80");
    let chain = vec!["1"; 500].join(" + ");
    assert!(refused(&select(&format!("{}{chain}{}", format!("({chain} + ").repeat(40), ")".repeat(40)))).starts_with("M0402"));
    assert!(refused(&select(&format!("{}{chain}{}", "(".repeat(40), format!(" + {chain})").repeat(40)))).starts_with("M0402"));
    assert_eq!(refused(&select(&vec!["1"; 400_000].join("+"))), "M0402 the query is 800032 bytes long, more than 262144");
    assert!(refused(&format!("SELECT 1 AS x FROM {}a{}", "(".repeat(10_000), ")".repeat(10_000))).starts_with("M040"));
    assert!(refused(&select(&format!("CAST(1 AS {}INT{})", "ARRAY<".repeat(10_000), ">".repeat(10_000)))).starts_with("M0402"));
    assert!(refused(&select(&format!("services{}", "[1]".repeat(10_000)))).starts_with("M0402"));
    assert!(refused(&vec!["SELECT 1 AS x"; 5_000].join(" UNION ALL ")).starts_with("M0402"));
    let joins = "JOIN stations_info i ON i.station_id = s.station_id ".repeat(5_000);
    assert!(
        refused(&format!("SELECT s.station_id FROM stations_status s {joins}"))
            .starts_with("M0402 a query joins at most 32 relations")
    );
}

#[test]
fn sub_queries_are_bounded() {
    let from = |relation: &str| format!("SELECT x.station_id FROM {relation} x");
    let nested = |depth: usize| (0..depth).fold("stations_status".to_string(), |inner, _| format!("({})", from(&inner)));
    accepted(&from(&nested(20)));
    assert!(refused(&from(&nested(30))).starts_with("M0402"));
    assert!(refused(&from(&nested(1_000))).starts_with("M0402"));
    assert!(refused(&from(&nested(3_000))).starts_with("M0402"));
    let chain = |length: usize| {
        let part = |n: usize| format!("c{n} AS (SELECT station_id FROM c{})", n - 1);
        let parts: Vec<String> = (1..length).map(part).collect();
        format!(
            "WITH c0 AS (SELECT station_id FROM stations_status), {} SELECT station_id FROM c{}",
            parts.join(", "),
            length - 1
        )
    };
    accepted(&chain(20));
    assert!(refused(&chain(30)).starts_with("M0402 sub-queries nest more than 24 deep"));
    assert!(refused(&chain(3_000)).starts_with("M0402 sub-queries nest more than 24 deep"));
    for doubled in [
        "SELECT a.station_id FROM c{} a JOIN c{} b ON a.station_id = b.station_id AND a.rowtime = b.rowtime",
        "SELECT station_id FROM c{} UNION ALL SELECT station_id FROM c{}",
        "SELECT station_id FROM c{} UNION SELECT x.station_id FROM (SELECT * FROM c{}) x JOIN nothing n ON n.station_id = x.station_id",
    ] {
        let part = |n: usize| format!("c{n} AS ({})", doubled.replace("{}", &format!("c{}", n - 1)));
        let parts: Vec<String> = (1..24).map(part).collect();
        let sql = format!("WITH c0 AS (SELECT station_id FROM stations_status), {} SELECT station_id FROM c23", parts.join(", "));
        assert!(refused(&sql).starts_with("M040"), "{}", refused(&sql));
    }
    let columns: Vec<String> = (0..4_000).map(|n| format!("num_bikes_available + {n} AS c{n}")).collect();
    let uses: Vec<String> = (0..50).map(|_| "SELECT c1 FROM a".to_string()).collect();
    let sql = format!("WITH a AS (SELECT {} FROM stations_status) {}", columns.join(", "), uses.join(" UNION ALL "));
    assert!(refused(&sql).starts_with("M0402 the sub-queries are more than 524288 bytes long"), "{}", refused(&sql));
    let stars = vec!["*"; 10_000].join(", ");
    assert!(
        refused(&format!("SELECT station_id FROM stations_status UNION ALL SELECT {stars} FROM stations_info"))
            .starts_with("M0402")
    );
    let lists: String = (0..40).map(|n| format!(", UNNEST(services) AS t{n}(x)")).collect();
    assert!(refused(&format!("SELECT station_id FROM stations_status{lists}")).starts_with("M0402 a query joins at most 32"));
    let withs = "WITH a AS (".repeat(10_000);
    assert!(refused(&withs).starts_with("M040"));
    let tables = "SELECT station_id FROM (".repeat(10_000);
    assert!(refused(&tables).starts_with("M040"));
    assert!(refused(&format!("{}{}", "(".repeat(40), "SELECT 1) ".repeat(40))).starts_with("M040"));
}

#[test]
fn nothing_takes_long() {
    let openings = [
        "(",
        "abs(",
        "CASE WHEN ",
        "CASE ",
        "CAST(",
        "[",
        "ARRAY[",
        "EXISTS (SELECT ",
        "(SELECT ",
        "INTERVAL ",
        "x IN (",
        "DATE ",
        "NOT ",
        "- ",
        "EXTRACT(YEAR FROM ",
        "SUBSTRING(",
        "TRIM(",
        "POSITION(",
        "1 BETWEEN ",
        "CAST(x AS ARRAY<",
        "STRUCT(",
        "(1, ",
        "x[",
        "ANY(",
        "f(x -> ",
        "(SELECT x FROM ",
        "(WITH a AS (SELECT 1) SELECT x FROM ",
        "(SELECT x FROM a UNION ALL SELECT x FROM ",
        "(SELECT x FROM a, UNNEST(",
        "a JOIN (SELECT ROW_NUMBER() OVER (PARTITION BY ",
    ];
    for opening in openings {
        for depth in [10, 20, 30, 40, 49] {
            let started = std::time::Instant::now();
            refused(&format!("SELECT {}", opening.repeat(depth)));
            refused(&format!("SELECT x FROM a WHERE {} 1", opening.repeat(depth)));
            refused(&format!("SELECT x FROM {}", opening.repeat(depth)));
            let close: String = opening
                .chars()
                .rev()
                .filter_map(|c| match c {
                    '(' => Some(')'),
                    '[' => Some(']'),
                    '<' => Some('>'),
                    _ => None,
                })
                .collect();
            refused(&format!("SELECT {}1{} AS x FROM stations_statu", opening.repeat(depth), close.repeat(depth)));
            refused(&format!("SELECT x FROM {}a{}", opening.repeat(depth), close.repeat(depth)));
            assert!(started.elapsed().as_secs() < 2, "{opening} {depth} times took {:?}", started.elapsed());
        }
    }
}

#[test]
fn what_is_within_the_bounds_is_carried_out() {
    let select = |expr: &str| format!("SELECT {expr} AS x FROM stations_status");
    accepted(&select(&format!("{}1{}", "(".repeat(40), ")".repeat(40))));
    accepted(&select(&format!("{}-1{}", "abs(".repeat(40), ")".repeat(40))));
    accepted(&select(&vec!["num_bikes_available"; 80].join(" + ")));
    accepted(&select(&vec!["is_renting = 1"; 500].join(" OR ")));
    accepted(&format!("SELECT station_id FROM stations_status WHERE {}", vec!["is_renting = 1"; 500].join(" AND ")));
    let cases: String = (0..200).map(|n| format!(" WHEN {n} THEN 'x{n}'")).collect();
    accepted(&select(&format!("CASE is_renting{cases} END")));
    let list: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    accepted(&select(&format!("is_renting IN ({})", list.join(", "))));
    let columns: Vec<String> = (0..1_000).map(|n| format!("num_bikes_available + {n} AS c{n}")).collect();
    accepted(&format!("SELECT {} FROM stations_status", columns.join(", ")));
    let joins: String = (0..31).map(|n| format!(" JOIN stations_info i{n} ON i{n}.station_id = s.station_id")).collect();
    accepted(&format!("SELECT s.station_id FROM stations_status s{joins}"));
}

#[test]
fn relations_and_columns_are_found_with_their_places() {
    let sql = "SELECT s.station_id, NAME, i.capacity * 2 AS c\nFROM stations_status AS s JOIN \"stations-info\" i ON i.station_id = s.station_id\nWHERE rowtime_is IS NULL";
    let (relations, diagnostics) = reads(&sql_text(sql));
    assert!(diagnostics.is_empty());
    let at = |start: usize, end: usize| &sql[start..end];
    let found: Vec<(&str, &str)> = relations.iter().map(|(name, place)| (name.as_str(), at(place.start, place.end))).collect();
    assert_eq!(found, [("stations_status", "stations_status"), ("stations-info", "\"stations-info\"")]);
    let sql = sql.replace("\nWHERE rowtime_is IS NULL", "");
    let (query, _) = bind(&sql_text(&sql), &products(), &Target { shape: Shape::Stream, key: &[] });
    let uses: Vec<String> = query
        .unwrap()
        .uses
        .iter()
        .map(|u| format!("{}.{} `{}`", u.product, u.column, &sql[u.place.start..u.place.end]))
        .collect();
    assert_eq!(
        uses,
        [
            "stations-status.station_id `s.station_id`",
            "stations-info.name `NAME`",
            "stations-info.capacity `i.capacity`",
            "stations-info.station_id `i.station_id`",
            "stations-status.station_id `s.station_id`",
        ]
    );
}

#[test]
fn relations_in_sub_queries_are_found_and_names_of_with_are_not() {
    let (found, _) = reads(&sql_text(
        "WITH x AS (SELECT * FROM a) SELECT * FROM x JOIN (SELECT * FROM b) y ON true UNION ALL SELECT * FROM c",
    ));
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn places_of_a_query_inside_yaml_point_into_the_file() {
    let file = "spec:\n  sql: |\n    SELECT nam\n    FROM stations_info\n";
    let text = "SELECT nam\nFROM stations_info\n";
    let origin =
        SqlOrigin::Lines { file: "p.yaml".into(), starts: vec![file.find("SELECT").unwrap(), file.find("FROM").unwrap()] };
    let sql = SqlText { text: text.into(), origin };
    let (_, diagnostics) = bind(&sql, &products(), &Target { shape: Shape::Table, key: &[] });
    let place = diagnostics[0].place.clone().unwrap();
    assert_eq!(&file[place.start..place.end], "nam");
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "JOIN",
        "ON",
        "LEFT",
        "GROUP BY",
        "HAVING",
        "AS",
        "AND",
        "OR",
        "NOT",
        "IS NULL",
        "BETWEEN",
        "IN",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST",
        "INTERVAL",
        "'1'",
        "MINUTE",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "*",
        "+",
        "-",
        "/",
        "=",
        "<",
        "<>",
        "||",
        "::",
        "1",
        "2.5",
        "NULL",
        "'a'",
        "\"b\"",
        "stations_status",
        "stations_info",
        "s",
        "i",
        "station_id",
        "name",
        "rowtime",
        "num_bikes_available",
        "valet",
        "active",
        "services",
        "count",
        "latest",
        "sum",
        "round",
        "floor",
        "coalesce",
        "concat",
        "extract",
        "year",
        "substring",
        "FOR",
        "SYSTEM_TIME",
        "EXCEPT",
        "EXCLUDE",
        "UNION ALL",
        "UNION",
        "SELECT station_id FROM",
        "(SELECT * EXCEPT (extra) FROM stations_status) x",
        "UNNEST(services) AS t",
        "CROSS JOIN",
        "QUALIFY",
        "ROW_NUMBER() OVER (PARTITION BY station_id ORDER BY rowtime)",
        "<= 3",
        "WITH",
        "a AS (SELECT * EXCEPT (extra) FROM stations_status)",
        "DISTINCT",
        "BIGINT",
        "STRING",
        "TIMESTAMP",
        "LIKE",
        "ORDER BY",
        "LIMIT",
        ";",
        "--x\n",
        "é",
        "OVER",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

fn queries() -> impl Strategy<Value = String> {
    (words(), words()).prop_map(|(a, b)| {
        format!("SELECT {a} FROM stations_status s JOIN stations_info i ON s.station_id = i.station_id WHERE {b}")
    })
}

/// Queries of sub-queries, most of which can be bound.
fn sub_queries() -> impl Strategy<Value = String> {
    let table = prop::sample::select(vec![
        "stations_enriched",
        "stations_info",
        "(SELECT *, ROW_NUMBER() OVER (PARTITION BY region_id ORDER BY rowtime) AS rn FROM stations_enriched)",
        "(SELECT *, ROW_NUMBER() OVER (PARTITION BY region_id ORDER BY capacity DESC) AS rn FROM stations_info)",
        "(SELECT region_id, max(capacity) AS capacity, max(lat) AS lat, latest(name) AS name, region_id AS station_id FROM stations_info GROUP BY region_id)",
        "(SELECT region_id, max(capacity) AS capacity, max(lat) AS lat, latest(name) AS name, latest(station_id) AS station_id FROM stations_enriched GROUP BY region_id)",
    ]);
    let leaf = table.prop_map(|table| format!("SELECT x.* FROM {table} x"));
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|q| format!("SELECT x.station_id, x.name, x.region_id, x.capacity FROM ({q}) x WHERE x.rn <= 3")),
            inner.clone().prop_map(|q| format!("SELECT x.station_id, x.name, x.region_id, x.capacity FROM ({q}) x WHERE x.rn = 1")),
            inner.clone().prop_map(|q| format!("SELECT DISTINCT x.station_id, x.name, x.region_id, x.capacity FROM ({q}) x")),
            inner.clone().prop_map(|q| format!("SELECT x.name, x.capacity + 1 AS capacity, x.region_id, upper(x.station_id) AS station_id FROM ({q}) x")),
            inner.clone().prop_map(|q| format!("SELECT x.name, min(x.capacity) AS capacity, x.region_id, min(x.station_id) AS station_id FROM ({q}) x GROUP BY 1, 3")),
            inner.clone().prop_map(|q| format!("SELECT x.station_id, x.name, x.region_id, x.capacity FROM ({q}) x QUALIFY ROW_NUMBER() OVER (PARTITION BY x.name ORDER BY x.capacity) <= 2")),
            inner.clone().prop_map(|q| format!("SELECT x.station_id, t.name, x.region_id, x.capacity FROM ({q}) x CROSS JOIN UNNEST([x.name, x.region_id]) AS t(name)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("SELECT station_id, name, region_id, capacity FROM ({a}) x UNION ALL SELECT station_id, name, region_id, capacity FROM ({b}) x")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("WITH a AS ({a}), b AS ({b}) SELECT b.station_id, a.name, a.region_id, b.capacity FROM a JOIN b ON a.station_id = b.station_id")),
        ]
    })
}

/// What the operators of a query take as their inputs, as the seam says.
fn feeds(node: &Node) {
    let inputs = node.inputs();
    let changes: Vec<Changes> = inputs.iter().map(|input| input.changes()).collect();
    let key_is_there = |changes: &Changes, node: &Node| match changes {
        Changes::Upsert(key) => key.iter().all(|at| *at < node.schema().fields().len()),
        _ => true,
    };
    assert!(key_is_there(&node.changes(), node), "{node:?}");
    let upsert = |changes: &Changes| matches!(changes, Changes::Upsert(_));
    match node {
        Node::Retract { .. } => assert!(changes.iter().all(upsert), "{node:?}"),
        Node::Rekey { .. } => assert!(changes.iter().all(|c| *c == Changes::Retract), "{node:?}"),
        Node::Aggregate { .. } | Node::Unnest { .. } | Node::Distinct { .. } | Node::TopN { .. } => {
            assert!(!changes.iter().any(upsert), "{node:?}");
        }
        Node::Union { changes: own, .. } => {
            assert!(!changes.iter().any(upsert), "{node:?}");
            assert_eq!(*own == Changes::Append, changes.iter().all(|c| *c == Changes::Append), "{node:?}");
            for input in &inputs {
                let types = |node: &Node| node.schema().fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
                assert_eq!(types(input), types(node), "{node:?}");
            }
        }
        Node::Project { input, columns, changes: Changes::Upsert(key), .. } => {
            let Changes::Upsert(below) = input.changes() else { panic!("{node:?}") };
            let of = input.schema().columns();
            let kept: Vec<_> = key.iter().filter_map(|at| columns[*at].try_as_col().cloned()).collect();
            assert_eq!(kept, below.iter().map(|at| of[*at].clone()).collect::<Vec<_>>(), "{node:?}");
        }
        Node::Project { changes: own, .. } => assert_eq!(vec![own.clone()], changes, "{node:?}"),
        _ => {}
    }
    inputs.into_iter().for_each(feeds);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Operators get what they take, whatever is nested in what.
    #[test]
    fn operators_are_fed_as_they_want(sql in sub_queries(), table in any::<bool>()) {
        let products = PRODUCTS.with(Clone::clone);
        let shape = if table { Shape::Table } else { Shape::Stream };
        let key = if table { vec!["name".to_string()] } else { Vec::new() };
        let (query, diagnostics) = bind(&sql_text(&sql), &*products, &Target { shape, key: &key });
        prop_assert!(query.is_some() || !diagnostics.is_empty());
        if let Some(query) = query {
            feeds(&query.root);
            compiles(&query, &query.root);
        }
    }

    /// Whatever the text is, there is an answer, and every place is one in the text.
    #[test]
    fn any_text_has_an_answer(sql in prop_oneof![any::<String>(), words(), queries()]) {
        let products = PRODUCTS.with(Clone::clone);
        let _ = reads(&sql_text(&sql));
        let (query, diagnostics) = bind(&sql_text(&sql), &*products, &Target { shape: Shape::Stream, key: &[] });
        prop_assert!(query.is_some() || !diagnostics.is_empty());
        for diagnostic in &diagnostics {
            shown(diagnostic, &sql);
        }
        if let Some(query) = query {
            compiles(&query, &query.root);
        }
    }
}

thread_local! {
    static PRODUCTS: std::rc::Rc<Products> = std::rc::Rc::new(products());
}
