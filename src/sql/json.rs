//! JSON in texts: `json_value(text, '$.path')` and its relatives.
//!
//! A text is checked to be JSON first, all of it; one that is none is an error of the row, which `is_json` tells before.
//! Then the path is walked over the text itself, so that a number comes out as it was written, however long it is.

use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, FieldRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::{Result, exec_err, plan_err};
use serde::de::IgnoredAny;

use super::own::{Own, each_text, is_text, text, texts};
use crate::model::row::type_name;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    /// An element of an array, the first is 0.
    Element(usize),
}

/// What of a path is no path.
pub(crate) fn path_error(path: &str) -> Option<String> {
    parse_path(path).err()
}

/// `$`, then any of `.name`, `."name"`, `['name']` and `[0]`.
fn parse_path(path: &str) -> std::result::Result<Vec<Step>, String> {
    let wrong = |what: &str| format!("`{path}` is no path: {what}");
    let mut rest = path.strip_prefix('$').ok_or_else(|| wrong("it begins with $"))?;
    let mut steps = Vec::new();
    while let Some(sign) = rest.chars().next() {
        let inside = rest.get(1..).unwrap_or_default();
        let (step, behind) = match sign {
            '.' => member(inside).ok_or_else(|| wrong("behind a point stands a name, such as .a or .\"a b\""))?,
            '[' => {
                element(inside).ok_or_else(|| wrong("in brackets stands a position from 0 or a name, such as [0] or ['a']"))?
            }
            _ => return Err(wrong("it goes on with .name or [0]")),
        };
        steps.push(step);
        rest = behind;
    }
    Ok(steps)
}

fn member(rest: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let (name, behind) = quoted.split_once('"')?;
        return Some((Step::Member(name.to_owned()), behind));
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, behind) = rest.split_at_checked(end)?;
    (!name.is_empty()).then(|| (Step::Member(name.to_owned()), behind))
}

fn element(rest: &str) -> Option<(Step, &str)> {
    for quote in ['\'', '"'] {
        if let Some(quoted) = rest.strip_prefix(quote) {
            let (name, behind) = quoted.split_once(quote)?;
            return Some((Step::Member(name.to_owned()), behind.strip_prefix(']')?));
        }
    }
    let (digits, behind) = rest.split_once(']')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    Some((Step::Element(digits.parse().ok().filter(|_| plain)?), behind))
}

/// A walk over a text that is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        let mut walk = Walk { text, chars: text.char_indices().peekable() };
        walk.spaces();
        walk
    }

    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn sign(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn spaces(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
    }

    /// One string with its quotes.
    fn string(&mut self) -> &'a str {
        let start = self.at();
        self.chars.next();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '\\' => drop(self.chars.next()),
                '"' => break,
                _ => {}
            }
        }
        let end = self.at();
        self.text.get(start..end).unwrap_or_default()
    }

    /// One value as it is written.
    fn value(&mut self) -> &'a str {
        let start = self.at();
        let mut depth = 0usize;
        while let Some(c) = self.sign() {
            match c {
                '"' => drop(self.string()),
                '{' | '[' => {
                    depth += 1;
                    self.chars.next();
                }
                // Without its opening it belongs to what is around.
                '}' | ']' | ',' if depth == 0 => break,
                '}' | ']' => {
                    depth -= 1;
                    self.chars.next();
                }
                _ => drop(self.chars.next()),
            }
            if depth == 0 && matches!(c, '"' | '}' | ']') {
                break;
            }
        }
        let end = self.at();
        self.text.get(start..end).unwrap_or_default().trim_end()
    }

    /// Calls `visit` for each member of an object, or element of an array: its name, or its position.
    fn parts(text: &'a str, mut visit: impl FnMut(Option<&'a str>, usize, &'a str)) {
        let mut walk = Walk::new(text);
        let object = walk.sign() == Some('{');
        walk.chars.next();
        for position in 0.. {
            walk.spaces();
            if matches!(walk.sign(), None | Some('}' | ']')) {
                return;
            }
            let name = object.then(|| {
                let name = walk.string();
                walk.spaces();
                walk.chars.next();
                walk.spaces();
                name
            });
            let value = walk.value();
            visit(name, position, value);
            walk.spaces();
            walk.chars.next();
        }
    }
}

/// The value at a path as it is written. Of members with equal names the last counts.
fn find<'a>(json: &'a str, path: &[Step]) -> Option<&'a str> {
    let mut value = json.trim_matches([' ', '\t', '\n', '\r']);
    for step in path {
        let mut found = None;
        match step {
            Step::Member(wanted) if value.starts_with('{') => Walk::parts(value, |name, _, part| {
                if name.and_then(unquoted).as_deref() == Some(wanted) {
                    found = Some(part);
                }
            }),
            Step::Element(wanted) if value.starts_with('[') => Walk::parts(value, |_, at, part| {
                if at == *wanted {
                    found = Some(part);
                }
            }),
            _ => return None,
        }
        value = found?;
    }
    Some(value)
}

/// A JSON string's text.
fn unquoted(string: &str) -> Option<String> {
    serde_json::from_str(string).ok()
}

/// Error: the text is no JSON.
fn check(json: &str) -> Result<()> {
    match serde_json::from_str::<IgnoredAny>(json) {
        Ok(_) => Ok(()),
        Err(error) => exec_err!("the text is no JSON: {error}"),
    }
}

/// For each row the value at the path; `None` where the text or the path is NULL, or where the path leads to nothing.
fn each<T>(
    columns: &[ArrayRef],
    rows: usize,
    mut value: impl FnMut(&str) -> Result<Option<T>>,
) -> Result<Vec<Option<Option<T>>>> {
    let json = texts(columns, 0)?;
    let paths = if columns.len() > 1 { Some(texts(columns, 1)?) } else { None };
    let mut known: Option<(&str, Vec<Step>)> = None;
    let mut row_value = |row: usize| {
        let path = paths.map_or(Some("$"), |paths| text(paths, row));
        let (Some(json), Some(path)) = (text(json, row), path) else { return Ok(None) };
        if known.as_ref().is_none_or(|(text, _)| *text != path) {
            match parse_path(path) {
                Ok(steps) => known = Some((path, steps)),
                Err(error) => return exec_err!("{error}"),
            }
        }
        check(json)?;
        let found = find(json, known.as_ref().map_or(&[], |(_, steps)| steps.as_slice()));
        Ok(Some(found.map(&mut value).transpose()?.flatten()))
    };
    (0..rows).map(&mut row_value).collect()
}

/// A scalar as text: a string's text, a number, true or false as they are written.
fn scalar(value: &str) -> Option<String> {
    match value.chars().next()? {
        '{' | '[' => None,
        '"' => unquoted(value),
        _ => Some(value.to_owned()).filter(|value| value != "null"),
    }
}

fn json_value(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let values = each(columns, rows, |value| Ok(scalar(value)))?;
    Ok(Arc::new(values.into_iter().map(Option::flatten).collect::<StringArray>()))
}

fn json_query(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let values = each(columns, rows, |value| Ok(Some(value.to_owned())))?;
    Ok(Arc::new(values.into_iter().map(Option::flatten).collect::<StringArray>()))
}

fn json_exists(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let values = each(columns, rows, |_| Ok(Some(())))?;
    Ok(Arc::new(values.into_iter().map(|found| found.map(|found| found.is_some())).collect::<BooleanArray>()))
}

fn json_array_length(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let length = |value: &str| {
        let mut length = 0i64;
        Walk::parts(value, |_, _, _| length += 1);
        Ok(Some(length).filter(|_| value.starts_with('[')))
    };
    Ok(Arc::new(each(columns, rows, length)?.into_iter().map(Option::flatten).collect::<Int64Array>()))
}

fn is_json(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let json = texts(columns, 0)?;
    Ok(Arc::new((0..rows).map(|row| text(json, row).map(|json| check(json).is_ok())).collect::<BooleanArray>()))
}

/// Any value as JSON: times as ISO 8601 texts, bytes in hexadecimal, decimals as numbers. A DOUBLE that JSON lacks is an error.
fn to_json(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let Some(values) = columns.first() else { return exec_err!("to_json takes one value") };
    each_text(rows, |row| if values.is_null(row) { Ok(None) } else { written(values, row).map(Some) })
}

fn written(values: &ArrayRef, row: usize) -> Result<String> {
    if values.is_null(row) {
        return Ok("null".into());
    }
    Ok(match values.data_type() {
        DataType::Struct(fields) => {
            let values = values.as_struct();
            let member =
                |(field, column): (&FieldRef, &ArrayRef)| Ok(format!("{}:{}", quoted(field.name()), written(column, row)?));
            format!("{{{}}}", fields.iter().zip(values.columns()).map(member).collect::<Result<Vec<_>>>()?.join(","))
        }
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            format!("[{}]", (0..items.len()).map(|i| written(&items, i)).collect::<Result<Vec<_>>>()?.join(","))
        }
        DataType::Map(..) => {
            let entries = values.as_map().value(row);
            let (names, items) = (plain(entries.column(0), quoted)?, entries.column(1));
            let member = |i: usize| Ok(format!("{}:{}", names(i)?, written(items, i)?));
            format!("{{{}}}", (0..entries.len()).map(member).collect::<Result<Vec<_>>>()?.join(","))
        }
        DataType::Float32 | DataType::Float64 => {
            let number = plain(values, str::to_owned)?(row)?;
            match number.as_str() {
                "NaN" | "inf" | "-inf" => return exec_err!("JSON has no number {number}"),
                _ => number,
            }
        }
        t if t.is_numeric() || *t == DataType::Boolean => plain(values, str::to_owned)?(row)?,
        _ => plain(values, quoted)?(row)?,
    })
}

/// Each row's value as plain text, made into something.
fn plain<'a>(values: &'a ArrayRef, made: fn(&str) -> String) -> Result<impl Fn(usize) -> Result<String> + 'a> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new();
    let texts = ArrayFormatter::try_new(values, &OPTIONS)?;
    Ok(move |row: usize| Ok(made(&texts.value(row).try_to_string()?)))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A type that has a form in JSON.
fn has_json(t: &DataType) -> bool {
    match t {
        DataType::List(item) => has_json(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_json(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) => entry.first().is_some_and(|key| is_text(key.data_type())) && has_json(entries.data_type()),
            _ => false,
        },
        DataType::Interval(_) | DataType::Duration(_) => false,
        t => !t.is_nested(),
    }
}

fn takes_text_and_path(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [json, path] if is_text(json) && is_text(path) => Ok(vec![DataType::Utf8; 2]),
        _ => plan_err!("takes a text and a path"),
    }
}

fn takes_text_and_maybe_path(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [json] if is_text(json) => Ok(vec![DataType::Utf8]),
        types => takes_text_and_path(types),
    }
}

fn takes_text(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [json] if is_text(json) => Ok(vec![DataType::Utf8]),
        _ => plan_err!("takes a text"),
    }
}

fn takes_any(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [t] if has_json(t) => Ok(vec![t.clone()]),
        [t] => plan_err!("{} has no form in JSON", type_name(t)),
        _ => plan_err!("takes one value"),
    }
}

/// The functions of this file.
pub(crate) fn all() -> [Own; 6] {
    let text = |_: &[DataType]| Ok(DataType::Utf8);
    let boolean = |_: &[DataType]| Ok(DataType::Boolean);
    let maybe = takes_text_and_maybe_path;
    [
        Own { name: "json_value", takes: takes_text_and_path, gives: text, compute: json_value, strict: false },
        Own { name: "json_query", takes: takes_text_and_path, gives: text, compute: json_query, strict: false },
        Own { name: "json_exists", takes: takes_text_and_path, gives: boolean, compute: json_exists, strict: true },
        Own {
            name: "json_array_length",
            takes: maybe,
            gives: |_| Ok(DataType::Int64),
            compute: json_array_length,
            strict: false,
        },
        Own { name: "is_json", takes: takes_text, gives: boolean, compute: is_json, strict: true },
        Own { name: "to_json", takes: takes_any, gives: text, compute: to_json, strict: true },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn paths() {
        let steps = |path: &str| parse_path(path).unwrap();
        assert_eq!(steps("$"), []);
        assert_eq!(steps("$.a[0]"), [Step::Member("a".into()), Step::Element(0)]);
        assert_eq!(steps("$['a b'].\"c.d\".ü"), ["a b", "c.d", "ü"].map(|name| Step::Member(name.into())));
        for wrong in
            ["", "a", "$a", "$.", "$..a", "$[]", "$[-1]", "$[+1]", "$[*]", "$.a[", "$['a'", "$[99999999999999999999]", "$ .a"]
        {
            assert!(parse_path(wrong).is_err(), "{wrong}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\{},:\\[\\] é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\" é]{0,2}", inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Every value of a document is found by its path, whatever the spaces are.
        #[test]
        fn every_value_is_found(document in values(), pretty in any::<bool>()) {
            fn visit(value: &Value, path: &mut Vec<Step>, all: &mut Vec<(Vec<Step>, Value)>) {
                all.push((path.clone(), value.clone()));
                let parts: Vec<(Step, &Value)> = match value {
                    Value::Array(items) => items.iter().enumerate().map(|(i, item)| (Step::Element(i), item)).collect(),
                    Value::Object(members) => members.iter().map(|(name, member)| (Step::Member(name.clone()), member)).collect(),
                    _ => Vec::new(),
                };
                for (step, part) in parts {
                    path.push(step);
                    visit(part, path, all);
                    path.pop();
                }
            }
            let text = if pretty { format!(" {}\n", serde_json::to_string_pretty(&document).unwrap()) } else { document.to_string() };
            let mut all = Vec::new();
            visit(&document, &mut Vec::new(), &mut all);
            for (path, value) in all {
                let found = find(&text, &path).map(|found| serde_json::from_str::<Value>(found).unwrap());
                prop_assert_eq!(found, Some(value));
                let mut nowhere = path.clone();
                nowhere.push(Step::Member("nowhere".into()));
                prop_assert_eq!(find(&text, &nowhere), None);
            }
        }
    }
}
