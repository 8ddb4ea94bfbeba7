//! Queries as text files: SQL in, the typed query or what is wrong with it out (`tests/sql/*.txt`).
//!
//! `MESH_UPDATE=1 cargo test --test sql` writes what came out into the files, for review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::create_physical_expr;

use mesh::model::diagnostic::{Diagnostic, Severity};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::query::{Node, Query};
use mesh::sql::{Relation, Relations, Target, bind, reads};
use proptest::prelude::*;

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

fn data_type(name: &str) -> DataType {
    let inside = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(item) = inside("ARRAY<") {
        return DataType::List(Arc::new(Field::new("item", data_type(item), true)));
    }
    if let Some(fields) = inside("STRUCT<") {
        let field = |f: &str| f.split_once(' ').map(|(n, t)| Field::new(n, data_type(t), true)).unwrap();
        return DataType::Struct(fields.split(", ").map(field).collect());
    }
    if let Some(entry) = inside("MAP<") {
        let (key, value) = entry.split_once(", ").unwrap();
        let fields = Fields::from(vec![Field::new("keys", data_type(key), false), Field::new("values", data_type(value), true)]);
        return DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false);
    }
    match name {
        "STRING" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "SMALLINT" => DataType::Int16,
        "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "BYTES" => DataType::Binary,
        "DATE" => DataType::Date32,
        "DECIMAL(10,2)" => DataType::Decimal128(10, 2),
        "TIMESTAMP(3)" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        "TIMESTAMP(6)" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => panic!("no type {other}"),
    }
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
            for argument in aggregates.iter().filter_map(|a| a.argument.as_ref()) {
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
    for file in files.iter().filter(|f| f.file_name().is_some_and(|n| n != "relations.txt")) {
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
