//! What a query may name: products with their columns, and the aliases under which FROM knows them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::{DFSchema, TableReference};

use super::windows::Windowed;
use crate::model::product::Shape;
use crate::model::row::{ROWTIME, RowType, rowtime_type};

/// A product as a query sees it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The product's name, as in its manifest.
    pub product: String,
    /// All columns of the contract that have a type, in its order, without `rowtime`.
    pub row_type: Arc<RowType>,
    /// Columns that have none, each with the reason.
    pub unsupported: Vec<(String, String)>,
    pub shape: Shape,
    /// Columns that form the record key; empty for a stream without one.
    pub key: Vec<String>,
    /// The column that is the event time, or `rowtime`: the record's own timestamp.
    pub time_field: String,
    /// How far a partition's records may be out of order, in milliseconds.
    pub disorder_ms: i64,
}

/// All products that a query may name.
pub trait Relations {
    /// The product of that name: `stations_enriched` and `stations-enriched` both find `stations-enriched`.
    fn find(&self, name: &str) -> Option<Arc<Relation>>;
    /// The names under which SQL knows the products.
    fn names(&self) -> Vec<String>;
}

impl Relation {
    /// The position of a column in `row_type`.
    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.row_type.index_of(column).ok()
    }

    /// The column that is the event time, if it is one of the contract's.
    pub(crate) fn time_column(&self) -> Option<usize> {
        (self.time_field != ROWTIME).then(|| self.position(&self.time_field)).flatten()
    }
}

/// A product that the query scans; each occurrence in FROM, also in sub-queries, is one.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) alias: String,
    pub(crate) relation: Arc<Relation>,
}

/// One relation of FROM, as names see it: a product, or a sub-query.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) alias: String,
    /// What FROM calls it before the alias: a product, or a sub-query of WITH.
    pub(crate) name: String,
    /// Its columns without `rowtime`.
    pub(crate) row_type: Arc<RowType>,
    /// Columns that have no type, each with the reason.
    pub(crate) unsupported: Vec<(String, String)>,
    /// The columns that are the event time, besides `rowtime`.
    pub(crate) times: Vec<String>,
    /// The product whose columns are among them; `None` for a sub-query, which has its own.
    pub(crate) product: Option<Arc<Relation>>,
    /// The window of event time that its rows are in.
    pub(crate) window: Option<Windowed>,
    /// Whether an outer join may leave this side without a row.
    pub(crate) optional: bool,
    /// Whether it has `rowtime` behind its columns: all have but UNNEST, whose rows are parts of another's.
    pub(crate) timed: bool,
}

impl Input {
    /// A product under an alias.
    pub(crate) fn product(alias: String, relation: Arc<Relation>) -> Self {
        Input {
            alias,
            name: relation.product.replace('-', "_"),
            row_type: relation.row_type.clone(),
            unsupported: relation.unsupported.clone(),
            times: relation.time_column().map(|_| relation.time_field.clone()).into_iter().collect(),
            product: Some(relation),
            window: None,
            optional: false,
            timed: true,
        }
    }

    /// The columns and `rowtime`, as a schema qualified by the alias.
    pub(crate) fn schema(&self) -> DFSchema {
        let qualifier = TableReference::bare(self.alias.clone());
        let columns = self.row_type.fields().iter().filter(|f| f.name() != ROWTIME).cloned();
        let fields = columns.chain(self.timed.then(|| Arc::new(Field::new(ROWTIME, rowtime_type(), false))));
        let fields = fields
            .map(|f| (Some(qualifier.clone()), if self.optional { Arc::new(f.as_ref().clone().with_nullable(true)) } else { f }));
        schema_of(fields.collect())
    }

    /// The type of a column, `rowtime` included.
    pub(crate) fn column(&self, name: &str) -> Option<DataType> {
        if name == ROWTIME {
            self.timed.then(rowtime_type)
        } else {
            self.row_type.field_with_name(name).ok().map(|f| f.data_type().clone())
        }
    }

    /// The names of its columns, `rowtime` last where it has one.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let columns = self.row_type.fields().iter().map(|f| f.name().as_str()).filter(|n| *n != ROWTIME);
        columns.chain(self.timed.then_some(ROWTIME))
    }

    /// Whether a column is the event time of its rows.
    pub(crate) fn is_time(&self, column: &str) -> bool {
        (self.timed && column == ROWTIME) || self.times.iter().any(|time| time == column)
    }
}

/// A schema of qualified fields. Fields that are doubled were refused before.
pub(crate) fn schema_of(fields: Vec<(Option<TableReference>, Arc<Field>)>) -> DFSchema {
    DFSchema::new_with_metadata(fields, Default::default()).unwrap_or_else(|_| DFSchema::empty())
}

/// The nearest of the candidates, if one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    let far = length.div_ceil(3).min(4);
    let distance = |c: &str| {
        let c = c.to_lowercase();
        // A name that was cut short is near, however much is missing.
        if length > 2 && c.starts_with(&name) { 1 } else { strsim::damerau_levenshtein(&name, &c) }
    };
    let distances = candidates.into_iter().map(|c| (distance(c), c));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, candidate)| candidate)
}

/// The first few of many names, for a message.
pub(crate) fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => format!("{}, and {} more", first.join(", "), names.len() - SHOWN),
        _ => names.join(", "),
    }
}
