//! Arbitrary text as a derivation: it has an answer, a query or diagnostics, and a query has a dataflow. The first byte says what the product is.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use mesh::engine::Dataflow;
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::model::row::{DataType, Field, RowType};
use mesh::sql::{Relation, Relations, Target, bind, reads};

struct Products(Vec<Arc<Relation>>);

impl Relations for Products {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.iter().find(|relation| relation.product == name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|relation| relation.product.clone()).collect()
    }
}

static PRODUCTS: LazyLock<Products> = LazyLock::new(|| {
    let relation = |product: &str, shape| {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let fields = vec![
            Field::new("k", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("l", list, true),
            Field::new("b", DataType::Boolean, true),
        ];
        Arc::new(Relation {
            product: product.into(),
            row_type: Arc::new(RowType::new(fields)),
            unsupported: Vec::new(),
            shape,
            key: vec!["k".into()],
            time_field: "rowtime".into(),
            disorder_ms: 1000,
        })
    };
    Products(vec![
        relation("s", Shape::Stream),
        relation("r", Shape::Stream),
        relation("t", Shape::Table),
        relation("u", Shape::Table),
    ])
});

fuzz_target!(|data: &[u8]| {
    let Some((way, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let sql = SqlText { text: text.into(), origin: SqlOrigin::Whole { file: "query.sql".into() } };
    let key = ["k".to_string()];
    let target = match way % 3 {
        0 => Target { shape: Shape::Stream, key: &[] },
        1 => Target { shape: Shape::Stream, key: &key },
        _ => Target { shape: Shape::Table, key: &key },
    };
    let _ = reads(&sql);
    let (query, diagnostics) = bind(&sql, &*PRODUCTS, &target);
    for place in diagnostics.iter().filter_map(|diagnostic| diagnostic.place.as_ref()) {
        assert!(text.get(place.start..place.end).is_some(), "a place is within the text");
    }
    assert!(query.is_some() || !diagnostics.is_empty(), "no query and no reason");
    if let Some(query) = query {
        let _ = query.to_string();
        let _ = Dataflow::compile(&query);
    }
});
