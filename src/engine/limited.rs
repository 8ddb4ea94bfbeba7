//! Values that stay within what their type can hold and memory can bear: DECIMALs of at most 38 digits, texts and arrays
//! that were put together of at most [`LONGEST`] bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Schema};
use datafusion_common::{Result, exec_err, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

/// The longest value that is put together of others, in bytes: some sub-queries that double a text would exhaust any machine.
const LONGEST: usize = 16 * 1024 * 1024;

/// An expression whose values are checked.
#[derive(Debug, Eq)]
pub(crate) struct Limited {
    inner: Arc<dyn PhysicalExpr>,
}

impl Limited {
    pub(crate) fn new(inner: Arc<dyn PhysicalExpr>) -> Self {
        Limited { inner }
    }
}

fn check(values: &ArrayRef) -> Result<()> {
    match values.data_type() {
        // Arithmetic is checked for 128 bits only, which hold some numbers of 39 digits.
        DataType::Decimal128(precision, scale) => {
            let decimals = values.as_primitive::<Decimal128Type>();
            if decimals.validate_decimal_precision(*precision).is_err() {
                return exec_err!("overflow: the value has more digits than DECIMAL({precision}, {scale})");
            }
        }
        DataType::Utf8 => longest(values.as_string::<i32>().value_offsets().windows(2))?,
        DataType::Binary => longest(values.as_binary::<i32>().value_offsets().windows(2))?,
        DataType::List(_) if values.as_list::<i32>().values().get_array_memory_size() > LONGEST => {
            for row in 0..values.len() {
                if values.slice(row, 1).to_data().get_slice_memory_size()? > LONGEST {
                    return exec_err!("the value is longer than {LONGEST} bytes");
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn longest<'a>(mut offsets: impl Iterator<Item = &'a [i32]>) -> Result<()> {
    let long = |offsets: &[i32]| match offsets {
        [start, end] => usize::try_from(end.saturating_sub(*start)).is_ok_and(|length| length > LONGEST),
        _ => false,
    };
    if offsets.any(long) { exec_err!("the value is longer than {LONGEST} bytes") } else { Ok(()) }
}

impl PartialEq for Limited {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Hash for Limited {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Limited {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.inner.evaluate(rows)?;
        match &value {
            ColumnarValue::Array(values) => check(values)?,
            ColumnarValue::Scalar(scalar) => check(&scalar.to_array()?)?,
        }
        Ok(value)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.pop()) {
            (Some(inner), None) => Ok(Arc::new(Limited { inner })),
            _ => internal_err!("a limited value has one expression"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
