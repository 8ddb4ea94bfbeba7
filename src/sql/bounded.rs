//! Functions whose value could be very much longer than what they are given: `repeat('x', 1000000000)`.
//!
//! A number in a record must not be able to exhaust the machine, so a value that would be longer than [`LONGEST`] and than
//! the arguments together is an error of the row, which is seen before the value is made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// The longest value that such a function makes of shorter ones, in bytes; of arrays, eight for each element at least.
pub(crate) const LONGEST: u64 = 256 * 1024;

/// How long a value can be, by the function's arguments and a row of them.
type Size = fn(&[ArrayRef], usize) -> u64;

/// What to expect of the functions that are bounded.
fn size_of(name: &str) -> Option<Size> {
    Some(match name {
        "repeat" | "array_repeat" => |args, row| bytes(args, 0, row).max(1).saturating_mul(number(args, 1, row)),
        "lpad" | "rpad" => |args, row| number(args, 1, row),
        "array_resize" => |args, row| bytes(args, 2, row).max(8).saturating_mul(number(args, 1, row)),
        "replace" => |args, row| {
            let (whole, found, by) = (bytes(args, 0, row), bytes(args, 1, row), bytes(args, 2, row));
            whole.saturating_add((whole / found.max(1)).saturating_mul(by))
        },
        "regexp_replace" => |args, row| {
            let (whole, by) = (bytes(args, 0, row), bytes(args, 2, row));
            // It may match between all characters, and the replacement may hold each match several times. Most do neither.
            whole.saturating_add(whole.saturating_add(1).saturating_mul(by) / 64)
        },
        "array_replace" | "array_replace_n" | "array_replace_all" => {
            |args, row| bytes(args, 0, row).saturating_add(elements(args, 0, row).saturating_mul(bytes(args, 2, row)))
        }
        "array_to_string" => |args, row| {
            let between = bytes(args, 1, row).max(bytes(args, 2, row));
            bytes(args, 0, row).saturating_add(elements(args, 0, row).saturating_mul(between))
        },
        // Not long, but slow: it compares each character with each.
        "levenshtein" => |args, row| bytes(args, 0, row).saturating_mul(bytes(args, 1, row)) / 1024,
        _ => return None,
    })
}

/// The function, bounded if it needs to be.
pub(crate) fn bounded(udf: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match size_of(udf.name()) {
        Some(_) => Arc::new(ScalarUDF::from(Bounded { udf })),
        None => udf,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    udf: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.udf.name()
    }

    fn aliases(&self) -> &[String] {
        self.udf.aliases()
    }

    fn signature(&self) -> &Signature {
        self.udf.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.udf.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.udf.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.udf.inner().is_strict()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.udf.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.udf.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literal = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if literal { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        if let Some(size) = size_of(self.name()) {
            for row in 0..rows {
                let given: u64 = (0..columns.len()).map(|at| bytes(&columns, at, row)).sum();
                if size(&columns, row) > LONGEST.max(given) {
                    return exec_err!("the value of {} would be longer than {LONGEST} bytes", self.name());
                }
            }
        }
        self.udf.invoke_with_args(args)
    }
}

/// How many bytes a row of an argument has.
fn bytes(args: &[ArrayRef], at: usize, row: usize) -> u64 {
    let Some(values) = args.get(at).filter(|values| row < values.len() && values.is_valid(row)) else { return 0 };
    let bytes = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => values.as_string::<i64>().value(row).len(),
        DataType::Utf8View => values.as_string_view().value(row).len(),
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            return (0..items.len()).map(|i| bytes(std::slice::from_ref(&items), 0, i).max(8)).fold(0, u64::saturating_add);
        }
        _ => values.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    };
    bytes as u64
}

/// How many elements an array has, those of arrays in it counted too.
fn elements(args: &[ArrayRef], at: usize, row: usize) -> u64 {
    let Some(values) = args.get(at).filter(|values| values.is_valid(row)) else { return 0 };
    match values.data_type() {
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            (0..items.len()).map(|i| elements(std::slice::from_ref(&items), 0, i).max(1)).fold(0, u64::saturating_add)
        }
        _ => 1,
    }
}

/// A count that an argument gives; nothing for a negative one.
fn number(args: &[ArrayRef], at: usize, row: usize) -> u64 {
    let Some(values) = args.get(at).filter(|values| values.is_valid(row)) else { return 0 };
    let wide = |values: &Int64Array| u64::try_from(values.value(row)).unwrap_or(0);
    match values.data_type() {
        DataType::Int64 => wide(values.as_primitive::<Int64Type>()),
        // An unsigned number that does not fit is null, and too many.
        _ => match cast(&values.slice(row, 1), &DataType::Int64) {
            Ok(one) if one.is_valid(0) => u64::try_from(one.as_primitive::<Int64Type>().value(0)).unwrap_or(0),
            _ => u64::MAX,
        },
    }
}
