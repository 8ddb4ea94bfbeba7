//! Scalar functions of our own, in the form in which DataFusion calls them: one Rust function over whole columns each.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::cast::as_string_array;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// A function by what it takes, gives and does.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) name: &'static str,
    /// The types that arguments of these types are cast to; an error if it does not take them.
    pub(crate) takes: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// The type of its value for arguments of the types that it takes.
    pub(crate) gives: fn(&[DataType]) -> Result<DataType>,
    /// Its value for each row; the columns have the types that it takes, and so many rows.
    pub(crate) compute: fn(&[ArrayRef], usize) -> Result<ArrayRef>,
    pub(crate) strict: bool,
}

impl Own {
    /// The function as DataFusion calls it.
    pub(crate) fn udf(self) -> ScalarUDF {
        ScalarUDF::from(Called { own: self, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

#[derive(Debug)]
struct Called {
    own: Own,
    signature: Signature,
}

impl PartialEq for Called {
    fn eq(&self, other: &Self) -> bool {
        self.own.name == other.own.name
    }
}

impl Eq for Called {}

impl Hash for Called {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.name.hash(state);
    }
}

impl ScalarUDFImpl for Called {
    fn name(&self) -> &str {
        self.own.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        (self.own.gives)(types)
    }

    fn is_strict(&self) -> bool {
        self.own.strict
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.own.takes)(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Literals only give a literal, so that it is computed once.
        let literal = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if literal { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let values = (self.own.compute)(&columns, rows)?;
        match literal {
            true => datafusion_common::ScalarValue::try_from_array(&values, 0).map(ColumnarValue::Scalar),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}

/// The column of texts at a position.
pub(crate) fn texts(columns: &[ArrayRef], at: usize) -> Result<&StringArray> {
    match columns.get(at) {
        Some(column) => as_string_array(column),
        None => Err(DataFusionError::Internal(format!("there is no argument {at}"))),
    }
}

/// A row's text; `None` where it is NULL.
pub(crate) fn text(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// A column of texts, one for each row.
pub(crate) fn each_text<T: AsRef<str>>(rows: usize, value: impl FnMut(usize) -> Result<Option<T>>) -> Result<ArrayRef> {
    Ok(Arc::new((0..rows).map(value).collect::<Result<StringArray>>()?))
}

/// Whether it is a type of texts, or that of a bare NULL.
pub(crate) fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null)
}
