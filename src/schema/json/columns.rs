//! The columns of a JSON Schema's records.

use std::cell::Cell;
use std::sync::Arc;

use super::Json;
use super::model::{Criterion, Id, Model, ObjectShape, Shape};
use crate::model::product::Format;
use crate::model::row::{DataType, Field, RowType};
use crate::schema::avro::map_of;
use crate::schema::columns::Columns;
use crate::schema::text::{Data, MAX_NESTING, Value};

/// What is known of a schema's values.
#[derive(Debug, Clone)]
struct Column {
    /// `None`: nothing but null.
    data_type: Option<DataType>,
    nullable: bool,
}

/// `Ok(None)`: the schema says nothing about the type.
type Known = Result<Option<Column>, String>;

impl Json {
    /// The columns of the object; none, and the reason, when it is no object with properties.
    pub(in crate::schema) fn columns(&self) -> Columns {
        Walk { model: &self.model, steps: Cell::new(0) }.columns()
    }

    /// The type of a schema that is no object with properties.
    pub(in crate::schema) fn bare(&self) -> Option<(DataType, bool)> {
        Walk { model: &self.model, steps: Cell::new(0) }.bare()
    }
}

/// A walk over a schema's nodes.
struct Walk<'a> {
    model: &'a Model,
    steps: Cell<usize>,
}

/// How many nodes a walk may visit, again and again if they refer to each other.
const MAX_STEPS: usize = 50_000;

impl Walk<'_> {
    fn columns(&self) -> Columns {
        let mut columns = Columns {
            format: Format::Json,
            row_type: RowType::empty(),
            unsupported: Vec::new(),
            required: Vec::new(),
            open: true,
        };
        let mut objects = Vec::new();
        if let Err(reason) = self.objects(self.model.root, 0, &mut objects) {
            columns.unsupported.push((String::new(), reason));
            return columns;
        }
        columns.open = objects.iter().all(|object| object.additional);
        let mut supported: Vec<Field> = Vec::new();
        for (name, id) in objects.iter().flat_map(|object| &object.properties) {
            let required = objects.iter().any(|object| object.required.contains(name));
            if required && !columns.required.contains(name) {
                columns.required.push(name.clone());
            }
            match self.typed(*id, 0) {
                Ok((data_type, nullable)) => {
                    let field = Field::new(name, data_type, nullable || !required);
                    match supported.iter_mut().find(|known| known.name() == name) {
                        Some(known) => *known = field,
                        None => supported.push(field),
                    }
                }
                Err(reason) => columns.unsupported.push((name.clone(), reason)),
            }
        }
        columns.row_type = RowType::new(supported);
        columns
    }

    fn bare(&self) -> Option<(DataType, bool)> {
        match self.objects(self.model.root, 0, &mut Vec::new()) {
            Ok(()) => None,
            Err(_) => self.typed(self.model.root, 0).ok(),
        }
    }

    /// The objects that together are a schema's records: one, or the parts of an `allOf`.
    fn objects<'a>(&'a self, id: Id, depth: usize, out: &mut Vec<&'a ObjectShape>) -> Result<(), String> {
        let not_an_object = |what: &str| Err(format!("the schema is {what}, not an object with properties"));
        if depth > MAX_NESTING || !self.step() {
            return not_an_object("one that contains itself or nests too deep");
        }
        match self.model.shape(id) {
            Shape::Reference { .. } if self.model.target(id) != id => self.objects(self.model.target(id), depth + 1, out),
            Shape::Object(object) if depth > 0 || !object.properties.is_empty() || object.required_type => {
                out.push(object);
                Ok(())
            }
            Shape::Combined { branches, criterion, .. } if *criterion == Criterion::All || branches.len() == 1 => {
                let before = out.len();
                for branch in branches {
                    // Conditions beside the properties restrict records, but add no columns.
                    if !matches!(
                        self.model.shape(*branch),
                        Shape::Conditional(_)
                            | Shape::Not(_)
                            | Shape::Combined { criterion: Criterion::Any | Criterion::One, .. }
                    ) {
                        self.objects(*branch, depth + 1, out)?;
                    }
                }
                if out.len() == before { not_an_object("a combination of schemas") } else { Ok(()) }
            }
            Shape::Text(_) => not_an_object("a string"),
            Shape::Numeric(_) => not_an_object("a number"),
            Shape::Boolean => not_an_object("a boolean"),
            Shape::Array(_) => not_an_object("an array"),
            Shape::Combined { .. } => not_an_object("a choice of schemas"),
            _ => not_an_object("of no type"),
        }
    }

    /// Counts a visit; false when there were too many.
    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() <= MAX_STEPS
    }

    fn typed(&self, id: Id, depth: usize) -> Result<(DataType, bool), String> {
        match self.column(id, depth)? {
            Some(Column { data_type: Some(data_type), nullable }) => Ok((data_type, nullable)),
            Some(Column { data_type: None, .. }) => Err("null is no type for a column".into()),
            None => Err("its schema says no type".into()),
        }
    }

    fn column(&self, id: Id, depth: usize) -> Known {
        if depth > MAX_COLUMN_DEPTH || !self.step() {
            return Err("it contains itself or nests too deep".into());
        }
        let of = |data_type| Ok(Some(Column { data_type: Some(data_type), nullable: false }));
        match self.model.shape(id) {
            Shape::Reference { .. } => match self.model.target(id) {
                target if target == id => Err("its reference has no target".into()),
                target => self.column(target, depth + 1),
            },
            Shape::Null => Ok(Some(Column { data_type: None, nullable: true })),
            Shape::Boolean => of(DataType::Boolean),
            Shape::Text(text) if text.required => of(DataType::Utf8),
            Shape::Numeric(numeric) if numeric.integer => of(DataType::Int64),
            Shape::Numeric(numeric) if numeric.required => of(DataType::Float64),
            Shape::Object(object) if object.required_type || !object.properties.is_empty() => of(self.object(object, depth)?),
            Shape::Array(array) if array.required_type || array.all_items.is_some() => match array.all_items {
                Some(item) => {
                    let (data_type, nullable) = self.typed(item, depth + 1).map_err(|reason| format!("its items: {reason}"))?;
                    of(DataType::List(Arc::new(Field::new("item", data_type, nullable))))
                }
                None if array.items.is_empty() => Err("its items have no schema".into()),
                None => Err("an array with a schema for each item is no type for a column".into()),
            },
            Shape::Const(value) => constants(std::slice::from_ref(value)),
            Shape::Enum(values) => constants(values),
            Shape::Combined { criterion: Criterion::All, branches, .. } => self.all(branches, depth),
            Shape::Combined { branches, .. } => self.any(branches, depth),
            Shape::False => Err("no value is allowed".into()),
            _ => Ok(None),
        }
    }

    fn object(&self, object: &ObjectShape, depth: usize) -> Result<DataType, String> {
        if object.properties.is_empty() {
            return match object.additional_schema {
                Some(id) if object.patterns.is_empty() => {
                    let (data_type, nullable) = self.typed(id, depth + 1).map_err(|reason| format!("its values: {reason}"))?;
                    Ok(map_of(data_type, nullable))
                }
                _ => Err("an object without properties is no type for a column".into()),
            };
        }
        let mut fields = Vec::new();
        for (name, id) in &object.properties {
            let (data_type, nullable) = self.typed(*id, depth + 1).map_err(|reason| format!("{name}: {reason}"))?;
            fields.push(Field::new(name, data_type, nullable || !object.required.contains(name)));
        }
        Ok(DataType::Struct(fields.into()))
    }

    /// One of several: they must be of one type, null aside.
    fn any(&self, branches: &[Id], depth: usize) -> Known {
        let mut all: Option<Column> = None;
        for branch in branches {
            let Some(column) = self.column(*branch, depth + 1)? else { return Ok(None) };
            all = Some(match all {
                None => column,
                Some(before) => Column {
                    nullable: before.nullable || column.nullable,
                    data_type: match (before.data_type, column.data_type) {
                        (None, other) | (other, None) => other,
                        (Some(a), Some(b)) => {
                            Some(either(a, b).ok_or("alternatives of different types are no type for a column")?)
                        }
                    },
                },
            });
        }
        Ok(all)
    }

    /// All of several: what says nothing of the type does not count, and the narrowest type does.
    fn all(&self, branches: &[Id], depth: usize) -> Known {
        let mut all: Option<Column> = None;
        for branch in branches {
            let Some(column) = self.column(*branch, depth + 1)? else { continue };
            all = Some(match all {
                None => column,
                Some(before) => Column {
                    nullable: before.nullable && column.nullable,
                    data_type: match (before.data_type, column.data_type) {
                        (None, _) | (_, None) => None,
                        (Some(a), Some(b)) => Some(both(a, b).ok_or("no value can be of all the types it demands")?),
                    },
                },
            });
        }
        Ok(all)
    }
}

/// How deep a column's type may nest. Rows of a type that contains itself would have no end.
const MAX_COLUMN_DEPTH: usize = 48;

fn either(a: DataType, b: DataType) -> Option<DataType> {
    match (a, b) {
        (a, b) if a == b => Some(a),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => Some(DataType::Float64),
        _ => None,
    }
}

fn both(a: DataType, b: DataType) -> Option<DataType> {
    match (a, b) {
        (a, b) if a == b => Some(a),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => Some(DataType::Int64),
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut fields: Vec<Arc<Field>> = a.iter().cloned().collect();
            for field in &b {
                match fields.iter().find(|known| known.name() == field.name()) {
                    Some(known) if known.data_type() != field.data_type() => return None,
                    Some(_) => {}
                    None => fields.push(field.clone()),
                }
            }
            Some(DataType::Struct(fields.into()))
        }
        _ => None,
    }
}

/// The type of a list of values.
fn constants(values: &[Value]) -> Known {
    let mut all = Column { data_type: None, nullable: false };
    for value in values {
        let data_type = match &value.data {
            Data::Null => {
                all.nullable = true;
                continue;
            }
            Data::Bool(_) => DataType::Boolean,
            Data::Number(number) if number.integer => DataType::Int64,
            Data::Number(_) => DataType::Float64,
            Data::String(_) => DataType::Utf8,
            Data::Array(_) | Data::Object(_) => return Err("an enumeration of arrays or objects is no type for a column".into()),
        };
        all.data_type = Some(match all.data_type {
            None => data_type,
            Some(before) => {
                either(before, data_type).ok_or("an enumeration of values of different types is no type for a column")?
            }
        });
    }
    if values.is_empty() { Err("an enumeration without values allows none".into()) } else { Ok(Some(all)) }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::model::row::type_name;

    fn columns(text: &str) -> String {
        let columns = parse(text, &[]).unwrap().columns();
        let mut lines: Vec<String> = columns
            .row_type
            .fields()
            .iter()
            .map(|f| format!("{} {}{}", f.name(), type_name(f.data_type()), if f.is_nullable() { "?" } else { "" }))
            .collect();
        lines.extend(columns.unsupported.iter().map(|(name, reason)| format!("{name}: {reason}")));
        lines.push(if columns.open { "open".into() } else { "closed".into() });
        lines.join("\n")
    }

    const PROPERTIES: &str = r##""z":{"type":"string","format":"date"},"i":{"type":"integer","format":"int64"},"n":{"type":"number"},"b":{"type":"boolean"},
        "e":{"type":"string","enum":["a","b"]},"q":{"enum":["a",null]},"opt":{"type":["string","null"]},"one":{"oneOf":[{"type":"null"},{"type":"integer"}]},
        "any":{"anyOf":[{"type":"integer"},{"type":"number"}]},"r":{"$ref":"#/definitions/d"},
        "s":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"string"}},"required":["x"]},
        "m":{"type":"object","additionalProperties":{"type":"number"}},"l":{"type":"array","items":{"type":["string","null"]}},
        "free":{},"o":{"type":"object"},"t":{"type":"array","items":[{"type":"string"}]},"two":{"type":["string","integer"]},"self":{"$ref":"#"},"c":{"const":5}"##;

    #[test]
    fn types_and_what_can_be_no_column() {
        let expected = r#"z STRING
i BIGINT
n DOUBLE?
b BOOLEAN?
e STRING?
q STRING?
opt STRING?
one BIGINT?
any DOUBLE?
r STRING?
s STRUCT<x BIGINT, y STRING>?
m MAP<STRING, DOUBLE>?
l ARRAY<STRING>?
c BIGINT?
free: its schema says no type
o: an object without properties is no type for a column
TUPLE
two: alternatives of different types are no type for a column
SELF
closed"#;
        let text = format!(
            r#"{{"type":"object","properties":{{{PROPERTIES}}},"definitions":{{"d":{{"type":"string"}}}},"required":["z","i","opt"],"additionalProperties":false}}"#
        );
        let own = "self: z: free: its schema says no type";
        let own = own.replace("z: ", "");
        assert_eq!(
            columns(&text),
            expected.replace("TUPLE", "t: an array with a schema for each item is no type for a column").replace("SELF", &own)
        );
    }

    #[test]
    fn the_same_in_a_modern_draft() {
        let text = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"opt":{"type":["string","null"],"maxLength":3},
            "r":{"$ref":"#/$defs/d","maxLength":3},"t":{"type":"array","prefixItems":[{"type":"string"}]},"l":{"type":"array","items":{"$ref":"#/$defs/d"}}},
            "$defs":{"d":{"type":"string","format":"uri"}},"required":["r"]}"##;
        insta::assert_snapshot!(columns(text), @r"
        opt STRING?
        r STRING
        l ARRAY<STRING>?
        t: an array with a schema for each item is no type for a column
        open
        ");
    }

    #[test]
    fn parts_of_an_all_of_are_one_record() {
        let text = r#"{"allOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"properties":{"b":{"type":"integer"}}}]}"#;
        insta::assert_snapshot!(columns(text), @r"
        a STRING
        b BIGINT?
        open
        ");
        insta::assert_snapshot!(columns(r#"{"type":"string"}"#), @r"
        : the schema is a string, not an object with properties
        open
        ");
    }

    #[test]
    fn a_record_within_itself_is_no_column() {
        let text = r##"{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#"}}}"##;
        assert!(columns(text).contains("it contains itself or nests too deep"), "{}", columns(text));
    }
}
