//! AND and OR whose right side is computed only where the left does not decide.
//!
//! `b <> 0 AND a / b > 1` is no error where `b` is 0, whatever else is in the batch. DataFusion's own operator keeps to
//! that for whole batches only.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, filter_record_batch, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::cast::as_boolean_array;
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

/// `left AND right`, or `left OR right`.
#[derive(Debug, Eq)]
pub(crate) struct Logical {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    /// The left value that decides: false for AND, true for OR.
    decides: bool,
}

impl Logical {
    pub(crate) fn and(left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Self {
        Logical { left, right, decides: false }
    }

    pub(crate) fn or(left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Self {
        Logical { left, right, decides: true }
    }

    /// The right side's values; those of rows that the left decides are left open.
    fn right(&self, rows: &RecordBatch, left: &BooleanArray) -> Result<BooleanArray> {
        let open: BooleanArray = left.iter().map(|value| Some(value != Some(self.decides))).collect();
        if !open.has_false() {
            return booleans(&self.right, rows);
        }
        let mut values = booleans(&self.right, &filter_record_batch(rows, &open)?)?.iter().collect::<Vec<_>>().into_iter();
        Ok(open.values().iter().map(|open| if open { values.next().flatten() } else { Some(self.decides) }).collect())
    }
}

fn booleans(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray> {
    let values = expr.evaluate(rows)?.into_array(rows.num_rows())?;
    Ok(as_boolean_array(&values)?.clone())
}

impl PartialEq for Logical {
    fn eq(&self, other: &Self) -> bool {
        self.decides == other.decides && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for Logical {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.decides.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for Logical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.left, if self.decides { "OR" } else { "AND" }, self.right)
    }
}

impl PhysicalExpr for Logical {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let left = booleans(&self.left, rows)?;
        // A right side of literals would be computed for no rows too.
        if left.null_count() == 0 && left.values().iter().all(|value| value == self.decides) {
            return Ok(ColumnarValue::Array(Arc::new(left)));
        }
        let right = self.right(rows, &left)?;
        let both = if self.decides { or_kleene(&left, &right) } else { and_kleene(&left, &right) };
        Ok(ColumnarValue::Array(Arc::new(both?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[Arc<dyn PhysicalExpr>; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Logical { left, right, decides: self.decides })),
            Err(_) => internal_err!("AND and OR have two sides"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
