//! Keys: what rows are grouped, looked up and joined by, as bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::error::{CompileError, Failure};
use super::expression::Expression;

/// A map by encoded key. Its hashes are the same in every run; nothing may depend on its order all the same.
pub(crate) type KeyMap<V> = HashMap<Box<[u8]>, V, FixedState>;

/// Makes keys of rows.
#[derive(Debug)]
pub(crate) struct KeyEncoder {
    expressions: Vec<Expression>,
    form: Form,
    /// Values stay bit by bit what they are; else those that SQL calls equal are one: -0.0 and 0.0, and all NaN.
    verbatim: bool,
}

#[derive(Debug)]
enum Form {
    /// One column of 64-bit integers or of text: its bytes in memory.
    Bare,
    /// Anything else: Arrow's row encoding.
    Rows(RowConverter),
}

/// The keys of a batch's rows.
pub(crate) enum Keys {
    Integers(Int64Array),
    Texts(StringArray),
    Rows { rows: Rows, nulls: Option<NullBuffer> },
}

impl KeyEncoder {
    /// Keys that are compared with those of another encoder of the same types, and never with null.
    pub(crate) fn for_lookup(expressions: Vec<Expression>) -> Result<Self, CompileError> {
        let bare = matches!(expressions.as_slice(), [only] if matches!(only.data_type(), DataType::Int64 | DataType::Utf8));
        if bare { Ok(KeyEncoder { expressions, form: Form::Bare, verbatim: false }) } else { KeyEncoder::for_rows(expressions) }
    }

    /// Keys of which null may be a part, and which can be turned back into columns.
    pub(crate) fn for_rows(expressions: Vec<Expression>) -> Result<Self, CompileError> {
        let form = Form::Rows(row_converter(expressions.iter().map(Expression::data_type))?);
        Ok(KeyEncoder { expressions, form, verbatim: false })
    }

    /// The same for columns that are kept and sent again as they are.
    pub(crate) fn verbatim(expressions: Vec<Expression>) -> Result<Self, CompileError> {
        Ok(KeyEncoder { verbatim: true, ..KeyEncoder::for_rows(expressions)? })
    }

    /// Keys that sort as the rows do by these expressions, each with how it is sorted.
    pub(crate) fn for_order(order: Vec<(Expression, SortOptions)>) -> Result<Self, CompileError> {
        let sorted = |(e, options): &(Expression, SortOptions)| SortField::new_with_options(e.data_type().clone(), *options);
        let converter = RowConverter::new(order.iter().map(sorted).collect());
        let converter = converter.map_err(|error| CompileError(format!("rows can't be sorted by these columns: {error}")))?;
        let expressions = order.into_iter().map(|(e, _)| e).collect();
        Ok(KeyEncoder { expressions, form: Form::Rows(converter), verbatim: false })
    }

    /// The expressions that make up the key, as SQL.
    pub(crate) fn text(&self) -> String {
        self.texts().collect::<Vec<_>>().join(", ")
    }

    /// Each of them.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.expressions.iter().map(Expression::text)
    }

    /// The keys of some rows.
    pub(crate) fn encode(&self, rows: &RecordBatch) -> Result<Keys, Failure> {
        let same = |column: ArrayRef| if self.verbatim { column } else { canonical(&column) };
        let columns = self.expressions.iter().map(|e| e.evaluate(rows).map(same)).collect::<Result<Vec<_>, _>>()?;
        match (&self.form, columns.as_slice()) {
            (Form::Bare, [only]) if only.data_type() == &DataType::Int64 => {
                Ok(Keys::Integers(only.as_primitive::<Int64Type>().clone()))
            }
            (Form::Bare, [only]) => match only.as_string_opt::<i32>() {
                Some(texts) => Ok(Keys::Texts(texts.clone())),
                None => Err(Failure { expression: self.text(), reason: "is not of the type it was compiled for".into() }),
            },
            (Form::Rows(converter), columns) => {
                let nulls =
                    columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
                Ok(Keys::Rows { rows: convert(converter, columns, rows.num_rows())?, nulls })
            }
            (Form::Bare, _) => Err(Failure { expression: self.text(), reason: "has more than one column".into() }),
        }
    }

    /// Turns encoded keys back into columns. Only for [`KeyEncoder::for_rows`].
    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Failure> {
        match &self.form {
            Form::Bare => Ok(Vec::new()),
            Form::Rows(converter) => unconvert(converter, keys),
        }
    }
}

impl Keys {
    /// The key of row `i`; `None` if a part of it is null.
    pub(crate) fn get(&self, i: usize) -> Option<&[u8]> {
        if self.is_null(i) { None } else { Some(self.bytes(i)) }
    }

    /// The key of row `i`, in which nulls are values. Only of [`KeyEncoder::for_rows`] are they told apart.
    pub(crate) fn bytes(&self, i: usize) -> &[u8] {
        match self {
            Keys::Integers(values) => values.values().inner().as_slice().get(i * 8..i * 8 + 8).unwrap_or_default(),
            Keys::Texts(values) => values.value(i).as_bytes(),
            Keys::Rows { rows, .. } => rows.row(i).data(),
        }
    }

    /// Whether a part of the key of row `i` is null.
    pub(crate) fn is_null(&self, i: usize) -> bool {
        match self {
            Keys::Integers(values) => values.is_null(i),
            Keys::Texts(values) => values.is_null(i),
            Keys::Rows { nulls, .. } => nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)),
        }
    }
}

/// Arrow's row encoding of columns of these types.
pub(crate) fn row_converter<'a>(types: impl Iterator<Item = &'a DataType>) -> Result<RowConverter, CompileError> {
    let fields = types.map(|data_type| SortField::new(data_type.clone())).collect();
    RowConverter::new(fields).map_err(|error| CompileError(format!("state can't be kept by these columns: {error}")))
}

/// Columns as encoded rows. Without a column there are `length` empty rows.
pub(crate) fn convert(converter: &RowConverter, columns: &[ArrayRef], length: usize) -> Result<Rows, Failure> {
    if columns.is_empty() {
        let mut rows = converter.empty_rows(length, 0);
        let parser = converter.parser();
        (0..length).for_each(|_| rows.push(parser.parse(&[])));
        return Ok(rows);
    }
    Ok(converter.convert_columns(columns)?)
}

/// Floating point numbers as they are compared: all NaN are one, greater than all numbers, and -0.0 is 0.0.
pub(crate) fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let one = |n: f64| if n.is_nan() { f64::NAN } else { n + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one)) as ArrayRef
        }
        DataType::Float32 => {
            let one = |n: f32| if n.is_nan() { f32::NAN } else { n + 0.0 };
            let column: Float32Array = column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one);
            Arc::new(column)
        }
        _ => column.clone(),
    }
}

/// Encoded rows back as columns.
pub(crate) fn unconvert<'a>(converter: &RowConverter, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Failure> {
    let parser = converter.parser();
    Ok(converter.convert_rows(rows.map(|bytes| parser.parse(bytes)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::expression::nullable;
    use arrow::array::Float64Array;
    use arrow::datatypes::{Field, Schema};
    use datafusion_common::DFSchema;
    use datafusion_expr::col;

    fn encoder(names: &[&str], rows: bool) -> (DFSchema, KeyEncoder) {
        let fields = vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
            Field::new("f", DataType::Float64, true),
        ];
        let schema = DFSchema::try_from(Schema::new(fields)).unwrap();
        let expressions = names.iter().map(|name| Expression::compile(&col(*name), &schema).unwrap()).collect();
        let encoder = if rows { KeyEncoder::for_rows(expressions) } else { KeyEncoder::for_lookup(expressions) };
        (schema, encoder.unwrap())
    }

    fn rows(schema: &DFSchema) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(1)])),
            Arc::new(StringArray::from(vec![Some("a"), Some(""), None])),
            Arc::new(Float64Array::from(vec![Some(0.5), Some(0.5), Some(0.5)])),
        ];
        RecordBatch::try_new(nullable(schema), columns).unwrap()
    }

    #[test]
    fn a_key_with_a_null_part_is_none() {
        for names in [&["n"] as &[&str], &["t"], &["n", "t"], &["f", "n"]] {
            let (schema, encoder) = encoder(names, false);
            let rows = rows(&schema);
            let keys = encoder.encode(&rows).unwrap();
            for i in 0..3 {
                let null = names.iter().any(|name| rows.column_by_name(name).unwrap().is_null(i));
                assert_eq!(keys.get(i).is_none(), null, "{names:?} {i}");
            }
        }
        let (schema, encoder) = encoder(&["t"], false);
        assert_eq!(encoder.encode(&rows(&schema)).unwrap().get(1), Some(b"" as &[u8]));
    }

    /// SQL calls them equal: as a group, as a partition and in a join.
    #[test]
    fn zeros_and_nans_are_one_key_each() {
        let (schema, encoder) = encoder(&["f"], true);
        let column = |of: &[f64]| {
            let floats: ArrayRef = Arc::new(Float64Array::from(of.to_vec()));
            let rest = [DataType::Int64, DataType::Utf8].map(|t| arrow::array::new_null_array(&t, of.len()));
            RecordBatch::try_new(nullable(&schema), rest.into_iter().chain([floats]).collect()).unwrap()
        };
        let keys = encoder.encode(&column(&[0.0, -0.0, f64::NAN, -f64::NAN, 1.0])).unwrap();
        assert_eq!(keys.bytes(0), keys.bytes(1));
        assert_eq!(keys.bytes(2), keys.bytes(3));
        assert_ne!(keys.bytes(0), keys.bytes(4));
        assert_ne!(keys.bytes(0), keys.bytes(2));
        let as_they_are = KeyEncoder { verbatim: true, ..encoder };
        let keys = as_they_are.encode(&column(&[0.0, -0.0])).unwrap();
        assert_ne!(keys.bytes(0), keys.bytes(1));
    }

    #[test]
    fn keys_come_back_as_columns() {
        for names in [&[] as &[&str], &["t", "n"]] {
            let (schema, encoder) = encoder(names, true);
            let rows = rows(&schema);
            let keys = encoder.encode(&rows).unwrap();
            let columns = encoder.decode((0..3).map(|i| keys.bytes(i))).unwrap();
            let wanted: Vec<ArrayRef> = names.iter().map(|name| rows.column_by_name(name).unwrap().clone()).collect();
            assert_eq!(columns, wanted);
        }
    }
}
