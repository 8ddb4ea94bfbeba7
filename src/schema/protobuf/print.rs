//! A file as the registry prints it: without comments, declarations by their sorts, with `normal` in one order and with
//! full names, so that files that mean the same print alike.

use std::cmp::Ordering;

use super::names::Names;
use super::tree::{
    Choice, Enum, Extend, Extensions, Field, File, Group, Label, MAX_NUMBER, Message, OneOf, Reserved, SCALARS, Service, Syntax,
    Type, Value, map_types, messages,
};
use crate::schema::SchemaError;

/// The file in its own order.
pub(super) fn plain(file: &File) -> Result<String, SchemaError> {
    Printer::new(None).print(file)
}

/// The file normalized; an error says which name means nothing.
pub(super) fn normal(file: &File, names: &Names<'_>) -> Result<String, SchemaError> {
    Printer::new(Some(names)).print(file)
}

struct Printer<'a> {
    out: String,
    /// How many blocks are open.
    depth: usize,
    /// Whether the innermost block's line has not ended yet.
    fresh: bool,
    /// Given to normalize.
    names: Option<&'a Names<'a>>,
    package: String,
    /// The messages that are open.
    path: Vec<String>,
}

type Done = Result<(), SchemaError>;

impl<'a> Printer<'a> {
    fn new(names: Option<&'a Names<'a>>) -> Self {
        Printer { out: String::new(), depth: 0, fresh: false, names, package: String::new(), path: Vec::new() }
    }

    fn print(mut self, file: &File) -> Result<String, SchemaError> {
        self.package = file.package.clone().unwrap_or_default();
        match file.syntax {
            Some(Syntax::Proto3) => self.line("syntax = \"proto3\";"),
            Some(Syntax::Proto2) if self.names.is_none() => self.line("syntax = \"proto2\";"),
            _ => {}
        }
        if let Some(package) = &file.package {
            self.line(&format!("package {package};"));
        }
        if !file.imports.is_empty() || !file.public_imports.is_empty() {
            self.blank();
            self.imports("import", &file.imports);
            self.imports("import public", &file.public_imports);
        }
        self.options(&file.options, true);
        self.types(&file.types)?;
        if !file.extends.is_empty() {
            self.blank();
            self.extends(&file.extends)?;
        }
        if !file.services.is_empty() {
            self.blank();
            for service in &file.services {
                self.service(service)?;
            }
        }
        Ok(self.out)
    }

    // Lines and blocks.

    fn line(&mut self, text: &str) {
        for line in text.trim_end_matches('\n').split('\n') {
            self.indent();
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    fn indent(&mut self) {
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn open(&mut self, header: &str) {
        self.indent();
        self.out.push_str(header);
        self.out.push_str(" {");
        self.depth += 1;
        self.fresh = true;
    }

    /// A blank line between two sections of a block, with the indentation of the block's own lines; before the first
    /// section, the end of the block's first line.
    fn blank(&mut self) {
        if !self.fresh {
            self.out.extend(std::iter::repeat_n("  ", self.depth.saturating_sub(1)));
        }
        self.fresh = false;
        self.out.push('\n');
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if !self.fresh {
            self.indent();
        }
        self.fresh = false;
        self.out.push_str("}\n");
    }

    // Declarations.

    fn imports(&mut self, keyword: &str, paths: &[String]) {
        let mut paths: Vec<&String> = paths.iter().collect();
        if self.names.is_some() {
            paths.sort();
            paths.dedup();
        }
        for path in paths {
            self.line(&format!("{keyword} \"{}\";", escaped(path)));
        }
    }

    /// Messages first, then enums.
    fn types(&mut self, types: &[Type]) -> Done {
        let shown = |message: &&Message| {
            let declared = self.names.and_then(|names| names.resolve(&message.name, &self.package, &self.path));
            !declared.is_some_and(|(_, declared)| declared.message().is_some_and(Message::is_map_entry))
        };
        let messages: Vec<&Message> = messages(types).filter(shown).collect();
        let enums: Vec<&Enum> =
            types.iter().filter_map(|t| if let Type::Enum(declared) = t { Some(declared) } else { None }).collect();
        if !messages.is_empty() || !enums.is_empty() {
            self.blank();
        }
        for message in messages {
            self.path.push(message.name.clone());
            self.message(message)?;
            self.path.pop();
        }
        for declared in enums {
            self.path.push(declared.name.clone());
            self.enumeration(declared);
            self.path.pop();
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Done {
        self.open(&format!("message {}", message.name));
        self.reserved(&message.reserved);
        self.options(&message.options, true);
        if !message.fields.is_empty() {
            self.blank();
            self.fields(&message.fields)?;
        }
        if !message.oneofs.is_empty() {
            self.blank();
            self.oneofs(&message.oneofs)?;
        }
        self.groups(&message.groups)?;
        if !message.extensions.is_empty() {
            self.blank();
            self.extensions(&message.extensions);
        }
        if !message.extends.is_empty() {
            self.blank();
            self.extends(&message.extends)?;
        }
        self.types(&message.types)?;
        self.close();
        Ok(())
    }

    fn fields(&mut self, fields: &[Field]) -> Done {
        for field in self.sorted(fields, |field| field.number) {
            self.field(field)?;
        }
        Ok(())
    }

    /// In the text's order, or by number when normalizing.
    fn sorted<'b, T>(&self, items: &'b [T], number: impl Fn(&T) -> i32) -> Vec<&'b T> {
        let mut items: Vec<&T> = items.iter().collect();
        if self.names.is_some() {
            items.sort_by_key(|item| number(item));
        }
        items
    }

    fn field(&mut self, field: &Field) -> Done {
        let (mut label, mut kind) = (field.label, field.kind.clone());
        if let Some((key, _)) = map_types(&kind)
            && !KEYS.contains(&key)
        {
            let message = format!("field {}: {key} can't be a map's key; integers, bool and string can", field.name);
            return Err(SchemaError::new(message, Some(field.at.clone())));
        }
        if self.names.is_some() {
            kind = self.full_kind(&kind, &format!("field {}", field.name), field)?;
            if kind.starts_with("map<") {
                label = None;
            }
        }
        let label = match label {
            None => "",
            Some(Label::Required) => "required ",
            Some(Label::Optional) => "optional ",
            Some(Label::Repeated) => "repeated ",
        };
        let mut options = field.options.clone();
        if let Some(default) = &field.default {
            let value = match kind.rsplit('.').next().unwrap_or_default() {
                "bool" => Value::Word(default.clone()),
                "string" => Value::Text(default.clone()),
                scalar if SCALARS.contains(&scalar) => Value::Number(default.clone()),
                _ => Value::Word(default.clone()),
            };
            options.push(Choice { name: "default".into(), custom: false, value });
        }
        if let Some(name) = &field.json_name {
            options.push(Choice { name: "json_name".into(), custom: false, value: Value::Text(name.clone()) });
        }
        let options = self.bracketed(&options);
        self.line(&format!("{label}{kind} {} = {}{options};", field.name, field.number));
        Ok(())
    }

    /// A type with its full name; entries of maps become maps.
    fn full_kind(&self, kind: &str, what: &str, field: &Field) -> Result<String, SchemaError> {
        let Some(names) = self.names else { return Ok(kind.to_owned()) };
        let mut kind = kind.to_owned();
        if !SCALARS.contains(&kind.as_str()) && map_types(&kind).is_none() {
            let Some((full, declared)) = names.resolve(&kind, &self.package, &self.path) else {
                return Err(SchemaError::new(unknown(what, &kind), Some(field.at.clone())));
            };
            kind = declared.map().unwrap_or_else(|| format!(".{full}"));
        }
        if let Some((key, value)) = map_types(&kind)
            && let Some((full, _)) = names.resolve(value, &self.package, &self.path)
        {
            kind = format!("map<{key}, .{full}>");
        }
        Ok(kind)
    }

    /// A type's full name.
    fn full(&self, name: &str, what: &str) -> Result<String, SchemaError> {
        match self.names {
            None => Ok(name.to_owned()),
            Some(names) => match names.resolve(name, &self.package, &self.path) {
                Some((full, _)) => Ok(format!(".{full}")),
                None => Err(SchemaError::new(unknown(what, name), None)),
            },
        }
    }

    fn oneofs(&mut self, oneofs: &[OneOf]) -> Done {
        let mut oneofs: Vec<&OneOf> = oneofs.iter().collect();
        if self.names.is_some() {
            oneofs.retain(|oneof| !oneof.fields.is_empty());
            oneofs.sort_by_key(|oneof| oneof.fields.iter().map(|field| field.number).min());
        }
        for oneof in oneofs {
            self.open(&format!("oneof {}", oneof.name));
            self.options(&oneof.options, true);
            if !oneof.fields.is_empty() {
                self.blank();
                self.fields(&oneof.fields)?;
            }
            self.groups(&oneof.groups)?;
            self.close();
        }
        Ok(())
    }

    fn groups(&mut self, groups: &[Group]) -> Done {
        if !groups.is_empty() {
            self.blank();
        }
        for group in self.sorted(groups, |group| group.number) {
            let label = match group.label {
                None => "",
                Some(Label::Required) => "required ",
                Some(Label::Optional) => "optional ",
                Some(Label::Repeated) => "repeated ",
            };
            self.open(&format!("{label}group {} = {}", group.name, group.number));
            if !group.fields.is_empty() {
                self.blank();
                self.fields(&group.fields)?;
            }
            self.close();
        }
        Ok(())
    }

    fn enumeration(&mut self, declared: &Enum) {
        self.open(&format!("enum {}", declared.name));
        self.reserved(&declared.reserved);
        if declared.reserved.is_empty() && (!declared.options.is_empty() || !declared.constants.is_empty()) {
            self.blank();
        }
        self.options(&declared.options, false);
        let mut constants: Vec<_> = declared.constants.iter().collect();
        if self.names.is_some() {
            constants.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.name.cmp(&b.name)));
        }
        for constant in constants {
            let options = self.bracketed(&constant.options);
            self.line(&format!("{} = {}{options};", constant.name, constant.number));
        }
        self.close();
    }

    fn reserved(&mut self, reserved: &[Vec<Reserved>]) {
        if reserved.is_empty() {
            return;
        }
        self.blank();
        if self.names.is_some() {
            let mut values: Vec<&Reserved> = reserved.iter().flatten().collect();
            values.sort_by(|a, b| by_start(a, b).then_with(|| sort_text(a).cmp(&sort_text(b))));
            for value in values {
                self.line(&format!("reserved {};", self.range(value)));
            }
        } else {
            for values in reserved {
                self.line(&format!("reserved {};", self.ranges(values)));
            }
        }
    }

    fn ranges(&self, values: &[Reserved]) -> String {
        values.iter().map(|value| self.range(value)).collect::<Vec<_>>().join(", ")
    }

    fn range(&self, value: &Reserved) -> String {
        match value {
            Reserved::Name(name) => format!("\"{name}\""),
            Reserved::Number(number) => number.to_string(),
            Reserved::Range(first, last) if self.names.is_some() && first == last => first.to_string(),
            Reserved::Range(first, last) if *last < MAX_NUMBER => format!("{first} to {last}"),
            Reserved::Range(first, _) => format!("{first} to max"),
        }
    }

    fn extensions(&mut self, extensions: &[Extensions]) {
        if self.names.is_none() {
            for part in extensions {
                let line = format!("extensions {}{};", self.ranges(&part.values), self.bracketed(&part.options));
                self.line(&line);
            }
            return;
        }
        let mut parts: Vec<(&Reserved, &Extensions)> =
            extensions.iter().flat_map(|part| part.values.iter().map(move |value| (value, part))).collect();
        parts.sort_by(|(a, _), (b, _)| by_start(a, b));
        for (value, part) in parts {
            let line = format!("extensions {}{};", self.range(value), self.bracketed(&part.options));
            self.line(&line);
        }
    }

    fn extends(&mut self, extends: &[Extend]) -> Done {
        let mut groups: Vec<(String, Vec<&Field>)> = Vec::new();
        for extend in extends {
            if self.names.is_some() && extend.fields.is_empty() {
                continue;
            }
            let name = self.full(&extend.name, "extend")?;
            match groups.iter_mut().find(|(known, _)| self.names.is_some() && *known == name) {
                Some((_, fields)) => fields.extend(&extend.fields),
                None => groups.push((name, extend.fields.iter().collect())),
            }
        }
        for (name, mut fields) in groups {
            self.open(&format!("extend {name}"));
            if !fields.is_empty() {
                self.blank();
            }
            if self.names.is_some() {
                fields.sort_by_key(|field| field.number);
            }
            for field in fields {
                self.field(field)?;
            }
            self.close();
        }
        Ok(())
    }

    fn service(&mut self, service: &Service) -> Done {
        self.open(&format!("service {}", service.name));
        self.options(&service.options, true);
        if !service.calls.is_empty() {
            self.blank();
        }
        for call in &service.calls {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            let what = format!("rpc {}", call.name);
            let (request, response) = (self.full(&call.request, &what)?, self.full(&call.response, &what)?);
            let (takes, gives) = (stream(call.request_streams), stream(call.response_streams));
            let line = format!("{what} ({takes}{request}) returns ({gives}{response})");
            let options = self.kept(&call.options);
            if options.is_empty() {
                self.line(&format!("{line};"));
                continue;
            }
            self.line(&format!("{line} {{"));
            self.depth += 1;
            self.option_lines(&options);
            self.depth -= 1;
            self.line("};");
        }
        self.close();
        Ok(())
    }

    // Options.

    fn options(&mut self, options: &[Choice], section: bool) {
        let options = self.kept(options);
        if !options.is_empty() && section {
            self.blank();
        }
        self.option_lines(&options);
    }

    fn option_lines(&mut self, options: &[Choice]) {
        for option in options {
            let option = format!("option {};", self.choice(option));
            self.line(&option);
        }
    }

    /// The options that are printed: all, or when normalizing sorted, with full names, and those of one name as one.
    fn kept(&self, options: &[Choice]) -> Vec<Choice> {
        let mut options = options.to_vec();
        let Some(names) = self.names else { return options };
        for option in options.iter_mut().filter(|option| option.custom) {
            if let Some((full, _)) = names.resolve_extension(&option.name, &self.package, &self.path) {
                option.name = full;
                as_map(option);
            }
        }
        options.sort_by(|a, b| a.name.cmp(&b.name));
        let mut out: Vec<Choice> = Vec::new();
        for option in options {
            match out.last_mut() {
                Some(before) if before.name == option.name && names.is_single(&option.name) => merge(before, option),
                _ => out.push(option),
            }
        }
        out
    }

    fn bracketed(&self, options: &[Choice]) -> String {
        let options = self.kept(options);
        if options.is_empty() {
            return String::new();
        }
        format!(" {}", list(options.iter().map(|option| self.choice(option)).collect()))
    }

    fn choice(&self, option: &Choice) -> String {
        let name = if option.custom { format!("({})", option.name) } else { option.name.clone() };
        match &option.value {
            Value::Inner(inner) => format!("{name}.{}", self.choice(inner)),
            Value::List(values) => format!("{name} = {}", list(values.iter().map(|value| self.value(value)).collect())),
            value => format!("{name} = {}", self.value(value)),
        }
    }

    fn value(&self, value: &Value) -> String {
        match value {
            Value::Text(text) => format!("\"{}\"", escaped(text)),
            Value::Word(word) => word.clone(),
            Value::Number(number) if self.names.is_some() => normal_number(number).unwrap_or_else(|| number.clone()),
            Value::Number(number) => number.clone(),
            Value::Inner(inner) => self.choice(inner),
            Value::Map(entries) => self.map(entries),
            Value::List(values) => match values.as_slice() {
                [only] if self.names.is_some() => self.value(only),
                _ => {
                    let mut out = String::from("[\n");
                    let texts: Vec<String> = values.iter().map(|value| self.value(value)).collect();
                    push_items(&texts, &mut out);
                    out.push(']');
                    out
                }
            },
        }
    }

    fn map(&self, entries: &[(String, Value)]) -> String {
        let mut shown: Vec<(String, &Value)> = entries.iter().map(|(key, value)| (key.clone(), value)).collect();
        if let Some(names) = self.names {
            shown.retain(|(_, value)| !matches!(value, Value::List(list) if list.is_empty()));
            for (key, _) in &mut shown {
                let inner = key.strip_prefix('[').and_then(|key| key.strip_suffix(']'));
                if let Some((full, _)) = inner.and_then(|inner| names.resolve_extension(inner, &self.package, &self.path)) {
                    *key = format!("[{full}]");
                }
            }
            shown.sort_by(|(a, _), (b, _)| a.cmp(b));
            shown.dedup_by(|(a, _), (b, _)| a == b);
        }
        let mut out = String::from("{\n");
        let texts: Vec<String> = shown.iter().map(|(key, value)| format!("{key}: {}", self.value(value))).collect();
        push_items(&texts, &mut out);
        out.push('}');
        out
    }
}

/// The types that may be a map's key.
const KEYS: [&str; 12] =
    ["bool", "fixed32", "fixed64", "int32", "int64", "sfixed32", "sfixed64", "sint32", "sint64", "string", "uint32", "uint64"];

fn unknown(what: &str, name: &str) -> String {
    format!("{what}: nothing is called {name}, neither here nor in a reference; declare it or add the reference that does")
}

/// Items in brackets: one on the same line, several on a line each.
fn list(items: Vec<String>) -> String {
    match items.as_slice() {
        [only] => format!("[{only}]"),
        items => {
            let mut out = String::from("[\n");
            push_items(items, &mut out);
            out.push(']');
            out
        }
    }
}

/// Items on indented lines, with commas between them.
fn push_items(items: &[String], out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        let comma = if at + 1 < items.len() { "," } else { "" };
        for line in format!("{item}{comma}").split('\n') {
            out.push_str("  ");
            out.push_str(line);
            out.push('\n');
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

fn by_start(a: &Reserved, b: &Reserved) -> Ordering {
    let start = |value: &Reserved| match value {
        Reserved::Number(first) | Reserved::Range(first, _) => *first,
        Reserved::Name(_) => i32::MAX,
    };
    start(a).cmp(&start(b))
}

fn sort_text(value: &Reserved) -> String {
    match value {
        Reserved::Number(number) => number.to_string(),
        Reserved::Range(first, last) => format!("{first}..{last}"),
        Reserved::Name(name) => name.clone(),
    }
}

/// `(a).b = 1` as `(a) = { b: 1 }`.
fn as_map(option: &mut Choice) {
    if matches!(option.value, Value::Inner(_)) {
        option.value = map_of(std::mem::replace(&mut option.value, Value::List(Vec::new())));
    }
}

fn map_of(value: Value) -> Value {
    match value {
        Value::Inner(inner) => Value::Map(vec![(inner.name, map_of(inner.value))]),
        other => other,
    }
}

/// Takes a second option of the same name into the first; of two that are no maps, the second counts.
fn merge(before: &mut Choice, mut option: Choice) {
    as_map(&mut option);
    let (Value::Map(known), Value::Map(more)) = (&mut before.value, &option.value) else {
        *before = option;
        return;
    };
    for (key, value) in more {
        match known.iter_mut().find(|(known, _)| known == key) {
            None => known.push((key.clone(), value.clone())),
            Some((_, known)) => {
                let mut all: Vec<Value> = Vec::new();
                for value in [&*known, value] {
                    match value {
                        Value::List(values) => all.extend(values.iter().cloned()),
                        one => all.push(one.clone()),
                    }
                }
                let mut distinct: Vec<Value> = Vec::new();
                for value in all {
                    if !distinct.contains(&value) {
                        distinct.push(value);
                    }
                }
                *known = Value::List(distinct);
            }
        }
    }
}

/// A number with three decimals at most, as Java's `DecimalFormat` prints it; `None` for what it can't read.
fn normal_number(text: &str) -> Option<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let whole = |digits: &str, radix: u32| {
        let value = i128::from_str_radix(digits, radix).ok()?;
        Some(if value == 0 { "0".to_owned() } else { format!("{sign}{value}") })
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return whole(hex, 16);
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return if digits.len() > 1 && digits.starts_with('0') { whole(digits, 8) } else { whole(digits, 10) };
    }
    let fraction = digits.split_once('.').map_or("", |(_, fraction)| fraction);
    let decimals = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || digits.contains('_') {
        return None;
    }
    // Few decimals are read as a float first.
    let narrow: f32 = digits.parse().ok()?;
    let wide: f64 = digits.parse().ok()?;
    let value = if decimals <= 7 && narrow.is_finite() && (narrow != 0.0 || wide == 0.0) { f64::from(narrow) } else { wide };
    let printed = format!("{value:.3}");
    let printed = printed.trim_end_matches('0').trim_end_matches('.');
    Some(format!("{sign}{printed}"))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn printed(text: &str) -> String {
        plain(&parse::file(text).unwrap()).unwrap()
    }

    fn normalized(text: &str) -> Result<String, String> {
        let file = parse::file(text).unwrap();
        let mut names = Names::default();
        names.add(&file, super::super::names::Origin::Own);
        normal(&file, &names).map_err(|e| e.message)
    }

    #[test]
    fn sorts_and_blank_lines() {
        let text = r#"syntax = "proto2"; import public "b.proto"; import "a//./b.proto"; import weak "w.proto"; package p;
            option (x.y).z = 5; option java_package = 'a"b';
            enum E { reserved 7 to max, "Q"; option allow_alias = true; B = 1 [deprecated = true]; A = 0; }
            message M { extensions 100 to 199, 300 [declaration = { number: 100 type: "a", names: ["x", 'y'] }];
                message Inner { option deprecated = true; repeated int32 z = 0x2; }
                oneof o { option (q) = 1; string s = 3; group G = 4 { optional int32 x = 1; } }
                optional group H = 5 { } required bool b = 1 [default = true, json_name = "bee"]; extend Other { optional int32 e = 9; } }
            service S { option deprecated = true; rpc Get (stream M) returns (M) { option idempotency_level = IDEMPOTENT; }; rpc Put (M) returns (M); }
            message Empty {}"#;
        insta::assert_snapshot!(printed(text), @r#"
        syntax = "proto2";
        package p;

        import "a/b.proto";
        import public "b.proto";

        option (x.y).z = 5;
        option java_package = "a\"b";

        message M {
          required bool b = 1 [
            default = true,
            json_name = "bee"
          ];

          oneof o {
            option (q) = 1;
          
            string s = 3;
          
            group G = 4 {
              optional int32 x = 1;
            }
          }

          optional group H = 5 {}

          extensions 100 to 199, 300 [declaration = {
            number: 100,
            type: "a",
            names: [
              "x",
              "y"
            ]
          }];

          extend Other {
            optional int32 e = 9;
          }

          message Inner {
            option deprecated = true;
          
            repeated int32 z = 2;
          }
        }
        message Empty {}
        enum E {
          reserved 7 to max, "Q";
          option allow_alias = true;
          B = 1 [deprecated = true];
          A = 0;
        }

        service S {
          option deprecated = true;

          rpc Get (stream M) returns (M) {
            option idempotency_level = IDEMPOTENT;
          };
          rpc Put (M) returns (M);
        }
        "#);
    }

    #[test]
    fn one_form_for_what_is_equal() {
        let text = r#"syntax = "proto3"; package p; import "b.proto"; import "a.proto"; import "a.proto";
            option (confluent.file_meta).tags = "b"; option (confluent.file_meta).tags = "a"; option (confluent.file_meta).doc = "d";
            enum E { B = 1; A = 1; Z = 0; }
            message M { reserved 9 to 9, "x", 7; M.N n = 3 [(confluent.field_meta) = { tags: ["one"], params: [] }]; repeated MapEntry map = 2;
                map<string, N> more = 1; oneof late { int32 q = 8; int32 p = 5; } oneof early { int32 a = 4; } oneof none {}
                message N { E e = 1 [(unknown.thing) = 1.50000001, deprecated = true]; }
                message MapEntry { option map_entry = true; string key = 1; E value = 2; } }"#;
        insta::assert_snapshot!(normalized(text).unwrap(), @r#"
        syntax = "proto3";
        package p;

        import "a.proto";
        import "b.proto";

        option (confluent.file_meta) = {
          doc: "d",
          tags: [
            "b",
            "a"
          ]
        };

        message M {
          reserved 7;
          reserved 9;
          reserved "x";

          map<string, .p.M.N> more = 1;
          map<string, .p.E> map = 2;
          .p.M.N n = 3 [(confluent.field_meta) = {
            tags: "one"
          }];

          oneof early {
            int32 a = 4;
          }
          oneof late {
            int32 p = 5;
            int32 q = 8;
          }

          message N {
            .p.E e = 1 [
              deprecated = true,
              (unknown.thing) = 1.5
            ];
          }
        }
        enum E {
          Z = 0;
          A = 1;
          B = 1;
        }
        "#);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let message = |text: &str| normalized(&format!("syntax = \"proto3\"; {text}")).unwrap_err();
        insta::assert_snapshot!(message("message M { Nope a = 1; }"), @"field a: nothing is called Nope, neither here nor in a reference; declare it or add the reference that does");
        insta::assert_snapshot!(message("service S { rpc Get (Nope) returns (Nope); }"), @"rpc Get: nothing is called Nope, neither here nor in a reference; declare it or add the reference that does");
        insta::assert_snapshot!(message("message M { map<float, int32> a = 1; }"), @"field a: float can't be a map's key; integers, bool and string can");
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("1", Some("1")),
            ("0x1F", Some("31")),
            ("010", Some("8")),
            ("-5", Some("-5")),
            ("1.50", Some("1.5")),
            ("1e3", Some("1000")),
            ("0.00012", Some("0")),
            ("2.7182818284", Some("2.718")),
            ("-inf", None),
            ("089", None),
        ] {
            assert_eq!(normal_number(text).as_deref(), expected, "{text}");
        }
    }
}
