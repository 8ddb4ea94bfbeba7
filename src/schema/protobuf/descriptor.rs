//! Files as descriptors in Base64: some clients register a `google.protobuf.FileDescriptorProto` instead of a text, and ask
//! for one with `format=serialized`.
//!
//! The numbers are those of descriptor.proto and of confluent/meta.proto. Custom options other than the registry's own
//! are left out, as it does.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::Protobuf;
use super::known;
use super::names::{Kind, Names};
use super::parse::{MAX_NESTING, unix_path};
use super::tree::{
    Call, Choice, Constant, Enum, Extend, Extensions, Field, File, Label, Message, OneOf, Reserved, Service, Syntax, Type, Value,
    map_types,
};

/// The numbers of the types that have a name.
const TYPES: [(u64, &str); 15] = [
    (1, "double"),
    (2, "float"),
    (3, "int64"),
    (4, "uint64"),
    (5, "int32"),
    (6, "fixed64"),
    (7, "fixed32"),
    (8, "bool"),
    (9, "string"),
    (12, "bytes"),
    (13, "uint32"),
    (15, "sfixed32"),
    (16, "sfixed64"),
    (17, "sint32"),
    (18, "sint64"),
];
const MESSAGE: u64 = 11;
const ENUM: u64 = 14;

/// An option that is known: its number, its name, and what it is.
type Known = (u64, &'static str, Is);

#[derive(Clone, Copy)]
enum Is {
    Text,
    Bool,
    /// The names of its values, from zero.
    Enum(&'static [&'static str]),
}

const FILE: &[Known] = &[
    (1, "java_package", Is::Text),
    (8, "java_outer_classname", Is::Text),
    (10, "java_multiple_files", Is::Bool),
    (20, "java_generate_equals_and_hash", Is::Bool),
    (27, "java_string_check_utf8", Is::Bool),
    (9, "optimize_for", Is::Enum(&["", "SPEED", "CODE_SIZE", "LITE_RUNTIME"])),
    (11, "go_package", Is::Text),
    (16, "cc_generic_services", Is::Bool),
    (17, "java_generic_services", Is::Bool),
    (18, "py_generic_services", Is::Bool),
    (23, "deprecated", Is::Bool),
    (31, "cc_enable_arenas", Is::Bool),
    (36, "objc_class_prefix", Is::Text),
    (37, "csharp_namespace", Is::Text),
    (39, "swift_prefix", Is::Text),
    (40, "php_class_prefix", Is::Text),
    (41, "php_namespace", Is::Text),
    (44, "php_metadata_namespace", Is::Text),
    (45, "ruby_package", Is::Text),
];
const IN_MESSAGE: &[Known] =
    &[(2, "no_standard_descriptor_accessor", Is::Bool), (3, "deprecated", Is::Bool), (7, "map_entry", Is::Bool)];
const IN_FIELD: &[Known] = &[
    (1, "ctype", Is::Enum(&["STRING", "CORD", "STRING_PIECE"])),
    (2, "packed", Is::Bool),
    (6, "jstype", Is::Enum(&["JS_NORMAL", "JS_STRING", "JS_NUMBER"])),
    (3, "deprecated", Is::Bool),
    (16, "debug_redact", Is::Bool),
    (17, "retention", Is::Enum(&["RETENTION_UNKNOWN", "RETENTION_RUNTIME", "RETENTION_SOURCE"])),
];
const IN_ENUM: &[Known] = &[(2, "allow_alias", Is::Bool), (3, "deprecated", Is::Bool)];
const IN_CONSTANT: &[Known] = &[(1, "deprecated", Is::Bool), (3, "debug_redact", Is::Bool)];
const IN_SERVICE: &[Known] = &[(33, "deprecated", Is::Bool)];
const IN_CALL: &[Known] = &[
    (33, "deprecated", Is::Bool),
    (34, "idempotency_level", Is::Enum(&["IDEMPOTENCY_UNKNOWN", "NO_SIDE_EFFECTS", "IDEMPOTENT"])),
];

/// The number of the registry's own option in all options.
const META: u64 = 1088;

// Reading.

/// A file from its descriptor in Base64; `None` for what is none.
pub(super) fn read(text: &str) -> Option<File> {
    let lenient = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = lenient.decode(text).ok()?;
    file(&Parts::read(&bytes)?)
}

/// The fields of one message, in order; those of four and eight bytes are left out, a descriptor declares none.
struct Parts<'a>(Vec<(u64, Part<'a>)>);

#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Parts<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Parts<'a>> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let part = match tag & 7 {
                0 => Some(Part::Number(varint(&mut bytes)?)),
                1 => take(&mut bytes, 8).map(|_| None)?,
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    Some(Part::Bytes(take(&mut bytes, length)?))
                }
                5 => take(&mut bytes, 4).map(|_| None)?,
                _ => return None,
            };
            if tag >> 3 == 0 {
                return None;
            }
            parts.extend(part.map(|part| (tag >> 3, part)));
        }
        Some(Parts(parts))
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(known, part)| match part {
            Part::Bytes(bytes) if *known == number => Some(*bytes),
            _ => None,
        })
    }

    fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        self.all(number).last()
    }

    /// A text, empty where it is absent.
    fn text(&self, number: u64) -> Option<String> {
        self.optional(number).map_or(Some(String::new()), |text| text)
    }

    fn optional(&self, number: u64) -> Option<Option<String>> {
        self.bytes(number).map(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
    }

    fn number(&self, number: u64) -> Option<u64> {
        self.0.iter().rev().find_map(|(known, part)| match part {
            Part::Number(value) if *known == number => Some(*value),
            _ => None,
        })
    }

    fn int(&self, number: u64) -> i32 {
        // Negative numbers are written with 64 bits.
        self.number(number).map_or(0, |value| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default().cast_signed())
    }

    fn flag(&self, number: u64) -> bool {
        self.number(number).is_some_and(|value| value != 0)
    }

    /// Numbers of a repeated field, packed or not.
    fn numbers(&self, number: u64) -> Option<Vec<u64>> {
        let mut out = Vec::new();
        for (_, part) in self.0.iter().filter(|(known, _)| *known == number) {
            match part {
                Part::Number(value) => out.push(*value),
                Part::Bytes(bytes) => {
                    let mut rest = *bytes;
                    while !rest.is_empty() {
                        out.push(varint(&mut rest)?);
                    }
                }
            }
        }
        Some(out)
    }

    fn texts(&self, number: u64) -> Option<Vec<String>> {
        self.all(number).map(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned)).collect()
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn file(parts: &Parts<'_>) -> Option<File> {
    let syntax = match parts.text(12)?.as_str() {
        "proto3" => Some(Syntax::Proto3),
        "proto2" => Some(Syntax::Proto2),
        _ => None,
    };
    let mut file = File { syntax, package: Some(parts.text(2)?).filter(|package| !package.is_empty()), ..Default::default() };
    let proto3 = syntax == Some(Syntax::Proto3);
    let (public, weak) = (parts.numbers(10)?, parts.numbers(11)?);
    for (at, path) in (0_u64..).zip(parts.texts(3)?) {
        let list = match (public.contains(&at), weak.contains(&at)) {
            (true, _) => &mut file.public_imports,
            (_, true) => &mut file.weak_imports,
            _ => &mut file.imports,
        };
        list.push(unix_path(&path));
    }
    for bytes in parts.all(4) {
        file.types.push(Type::Message(message(&Parts::read(bytes)?, proto3, 0)?));
    }
    for bytes in parts.all(5) {
        file.types.push(Type::Enum(enumeration(&Parts::read(bytes)?)?));
    }
    for bytes in parts.all(6) {
        file.services.push(service(&Parts::read(bytes)?)?);
    }
    file.extends = extends(parts.all(7), proto3)?;
    file.options = options(parts.bytes(8), FILE, "confluent.file_meta")?;
    Some(file)
}

fn extends<'a>(fields: impl Iterator<Item = &'a [u8]>, proto3: bool) -> Option<Vec<Extend>> {
    let mut out: Vec<Extend> = Vec::new();
    for bytes in fields {
        let parts = Parts::read(bytes)?;
        let (name, field) = (parts.text(2)?, field(&parts, proto3, false)?);
        match out.iter_mut().find(|extend| extend.name == name) {
            Some(extend) => extend.fields.push(field),
            None => out.push(Extend { name, fields: vec![field] }),
        }
    }
    Some(out)
}

fn message(parts: &Parts<'_>, proto3: bool, depth: usize) -> Option<Message> {
    if depth > MAX_NESTING {
        return None;
    }
    let mut message = Message { name: parts.text(1)?, ..Message::default() };
    for bytes in parts.all(8) {
        let name = Parts::read(bytes)?.text(1)?;
        message.oneofs.push(OneOf { name, fields: Vec::new(), groups: Vec::new(), options: Vec::new() });
    }
    for bytes in parts.all(2) {
        let parts = Parts::read(bytes)?;
        match parts.number(9).filter(|_| !parts.flag(17)) {
            Some(index) => {
                let oneof = message.oneofs.get_mut(usize::try_from(index).ok()?)?;
                oneof.fields.push(field(&parts, proto3, true)?);
            }
            None => message.fields.push(field(&parts, proto3, false)?),
        }
    }
    // What is left over stands for proto3's optional fields.
    message.oneofs.retain(|oneof| !oneof.fields.is_empty());
    for bytes in parts.all(3) {
        message.types.push(Type::Message(self::message(&Parts::read(bytes)?, proto3, depth + 1)?));
    }
    for bytes in parts.all(4) {
        message.types.push(Type::Enum(enumeration(&Parts::read(bytes)?)?));
    }
    for bytes in parts.all(9) {
        message.reserved.push(vec![range(&Parts::read(bytes)?, 1)]);
    }
    message.reserved.extend(parts.texts(10)?.into_iter().map(|name| vec![Reserved::Name(name)]));
    for bytes in parts.all(5) {
        let values = vec![range(&Parts::read(bytes)?, 1)];
        message.extensions.push(Extensions { values, options: Vec::new() });
    }
    message.options = options(parts.bytes(7), IN_MESSAGE, "confluent.message_meta")?;
    message.extends = extends(parts.all(6), proto3)?;
    Some(message)
}

/// A range; `open` is one where its end does not belong to it.
fn range(parts: &Parts<'_>, open: i32) -> Reserved {
    let (first, last) = (parts.int(1), parts.int(2).saturating_sub(open));
    if first == last { Reserved::Number(first) } else { Reserved::Range(first, last) }
}

fn field(parts: &Parts<'_>, proto3: bool, in_oneof: bool) -> Option<Field> {
    let label = match parts.number(4) {
        _ if in_oneof => None,
        _ if parts.flag(17) => Some(Label::Optional),
        Some(3) => Some(Label::Repeated),
        _ if proto3 => None,
        Some(2) => Some(Label::Required),
        _ => Some(Label::Optional),
    };
    let kind = match parts.optional(6) {
        Some(name) => name?,
        None => {
            let number = parts.number(5)?;
            TYPES.iter().find(|(known, _)| *known == number)?.1.to_owned()
        }
    };
    let default = match parts.optional(7) {
        Some(default) if !proto3 => Some(default?),
        _ => None,
    };
    let json_name = match parts.optional(10) {
        Some(name) => Some(name?),
        None => None,
    };
    let options = options(parts.bytes(8), IN_FIELD, "confluent.field_meta")?;
    Some(Field { label, kind, name: parts.text(1)?, number: parts.int(3), default, json_name, options, at: 0..0 })
}

fn enumeration(parts: &Parts<'_>) -> Option<Enum> {
    let mut declared = Enum { name: parts.text(1)?, ..Enum::default() };
    for bytes in parts.all(2) {
        let parts = Parts::read(bytes)?;
        let options = options(parts.bytes(3), IN_CONSTANT, "confluent.enum_value_meta")?;
        declared.constants.push(Constant { name: parts.text(1)?, number: parts.int(2), options });
    }
    for bytes in parts.all(4) {
        declared.reserved.push(vec![range(&Parts::read(bytes)?, 0)]);
    }
    declared.reserved.extend(parts.texts(5)?.into_iter().map(|name| vec![Reserved::Name(name)]));
    declared.options = options(parts.bytes(3), IN_ENUM, "confluent.enum_meta")?;
    Some(declared)
}

fn service(parts: &Parts<'_>) -> Option<Service> {
    let mut service = Service { name: parts.text(1)?, calls: Vec::new(), options: options(parts.bytes(3), IN_SERVICE, "")? };
    for bytes in parts.all(2) {
        let parts = Parts::read(bytes)?;
        service.calls.push(Call {
            name: parts.text(1)?,
            request: parts.text(2)?,
            request_streams: parts.flag(5),
            response: parts.text(3)?,
            response_streams: parts.flag(6),
            options: options(parts.bytes(4), IN_CALL, "")?,
        });
    }
    Some(service)
}

fn options(bytes: Option<&[u8]>, known: &[Known], meta_name: &str) -> Option<Vec<Choice>> {
    let mut out = Vec::new();
    let Some(bytes) = bytes else { return Some(out) };
    let parts = Parts::read(bytes)?;
    for (number, name, is) in known {
        let value = match is {
            Is::Text => match parts.optional(*number) {
                Some(text) => Value::Text(text?),
                None => continue,
            },
            Is::Bool => match parts.number(*number) {
                Some(value) => Value::Word((value != 0).to_string()),
                None => continue,
            },
            Is::Enum(names) => match parts.number(*number).and_then(|at| names.get(usize::try_from(at).ok()?)) {
                Some(name) => Value::Word((*name).to_owned()),
                None => continue,
            },
        };
        out.push(Choice { name: (*name).to_owned(), custom: false, value });
    }
    if let Some(bytes) = parts.bytes(META).filter(|_| !meta_name.is_empty()) {
        let meta = meta(&Parts::read(bytes)?)?;
        if !meta.is_empty() {
            out.push(Choice { name: meta_name.to_owned(), custom: true, value: Value::Map(meta) });
        }
    }
    Some(out)
}

/// `confluent.Meta` as an option's map.
fn meta(parts: &Parts<'_>) -> Option<Vec<(String, Value)>> {
    let mut out = Vec::new();
    let doc = parts.text(1)?;
    if !doc.is_empty() {
        out.push(("doc".to_owned(), Value::Text(doc)));
    }
    let mut params = Vec::new();
    for bytes in parts.all(2) {
        let entry = Parts::read(bytes)?;
        let (key, value) = (entry.text(1)?, entry.text(2)?);
        let value_first = matches!(key.as_str(), "precision" | "scale");
        let mut map = vec![("key".to_owned(), Value::Text(key)), ("value".to_owned(), Value::Text(value))];
        if value_first {
            map.reverse();
        }
        params.push(Value::Map(map));
    }
    if !params.is_empty() {
        out.push(("params".to_owned(), Value::List(params)));
    }
    let tags: Vec<Value> = parts.texts(3)?.into_iter().map(Value::Text).collect();
    if !tags.is_empty() {
        out.push(("tags".to_owned(), Value::List(tags)));
    }
    Some(out)
}

// Writing.

/// The file's descriptor in Base64. Its name is `default`, as who asks knows the real one.
pub(super) fn write(schema: &Protobuf) -> String {
    let file = &schema.file;
    let names = schema.names();
    let mut writer = Writer { names: &names, package: file.package.clone().unwrap_or_default(), path: Vec::new() };
    let mut out = Vec::new();
    put_text(1, "default", &mut out);
    if let Some(package) = &file.package {
        put_text(2, package, &mut out);
    }
    // Imports of what nobody knows are left out.
    let exists =
        |path: &&String| known::FILES.iter().any(|(known, _)| known == path) || schema.paths.iter().any(|known| known == *path);
    let imports: Vec<&String> = file.imports.iter().chain(&file.public_imports).filter(exists).collect();
    imports.iter().for_each(|path| put_text(3, path, &mut out));
    for declared in &file.types {
        match declared {
            Type::Message(message) => {
                let inner = writer.message(message);
                put_bytes(4, &inner, &mut out);
            }
            Type::Enum(declared) => put_bytes(5, &enum_bytes(declared), &mut out),
        }
    }
    file.services.iter().for_each(|service| put_bytes(6, &service_bytes(service), &mut out));
    for (extend, field) in file.extends.iter().flat_map(|extend| extend.fields.iter().map(move |field| (extend, field))) {
        let inner = writer.field(field, &field.kind, field.label, None, Some(&extend.name));
        put_bytes(7, &inner, &mut out);
    }
    put_options(8, &file.options, FILE, "file_meta", &mut out);
    for (at, path) in (0_u64..).zip(imports) {
        if file.public_imports.contains(path) {
            put_number(10, at, &mut out);
        }
    }
    match file.syntax {
        Some(Syntax::Proto2) => put_text(12, "proto2", &mut out),
        Some(Syntax::Proto3) => put_text(12, "proto3", &mut out),
        None => {}
    }
    STANDARD.encode(out)
}

struct Writer<'a> {
    names: &'a Names<'a>,
    package: String,
    path: Vec<String>,
}

impl Writer<'_> {
    fn message(&mut self, message: &Message) -> Vec<u8> {
        self.path.push(message.name.clone());
        let mut out = Vec::new();
        put_text(1, &message.name, &mut out);
        let mut oneofs: Vec<String> = message.oneofs.iter().map(|oneof| oneof.name.clone()).collect();
        for (index, oneof) in (0_u64..).zip(&message.oneofs) {
            for field in &oneof.fields {
                let inner = self.field(field, &field.kind, Some(Label::Optional), Some((index, false)), None);
                put_bytes(2, &inner, &mut out);
            }
        }
        let proto3 =
            self.names.resolve(&format!(".{}", self.full()), "", &[]).is_some_and(|(_, d)| d.syntax == Some(Syntax::Proto3));
        let mut entries = Vec::new();
        for field in &message.fields {
            let inner = if let Some((key, value)) = map_types(&field.kind) {
                let entry = entry_name(&field.name);
                entries.push(self.entry(&entry, key, value));
                self.field(field, &entry, Some(Label::Repeated), None, None)
            } else if proto3 && field.label == Some(Label::Optional) {
                oneofs.push(format!("_{}", field.name));
                let index = oneofs.len().saturating_sub(1) as u64;
                self.field(field, &field.kind, field.label, Some((index, true)), None)
            } else {
                self.field(field, &field.kind, field.label, None, None)
            };
            put_bytes(2, &inner, &mut out);
        }
        for declared in &message.types {
            if let Type::Message(inner) = declared {
                let inner = self.message(inner);
                put_bytes(3, &inner, &mut out);
            }
        }
        entries.iter().for_each(|entry| put_bytes(3, entry, &mut out));
        for declared in &message.types {
            if let Type::Enum(declared) = declared {
                put_bytes(4, &enum_bytes(declared), &mut out);
            }
        }
        for value in message.extensions.iter().flat_map(|part| &part.values) {
            put_range(5, value, 1, &mut out);
        }
        for (extend, field) in message.extends.iter().flat_map(|extend| extend.fields.iter().map(move |field| (extend, field))) {
            let inner = self.field(field, &field.kind, field.label, None, Some(&extend.name));
            put_bytes(6, &inner, &mut out);
        }
        put_options(7, &message.options, IN_MESSAGE, "message_meta", &mut out);
        for name in &oneofs {
            let mut inner = Vec::new();
            put_text(1, name, &mut inner);
            put_bytes(8, &inner, &mut out);
        }
        for value in message.reserved.iter().flatten() {
            match value {
                Reserved::Name(name) => put_text(10, name, &mut out),
                value => put_range(9, value, 1, &mut out),
            }
        }
        self.path.pop();
        out
    }

    fn full(&self) -> String {
        let package = Some(self.package.as_str()).filter(|package| !package.is_empty());
        package.into_iter().chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join(".")
    }

    /// The message of a map's entries.
    fn entry(&self, name: &str, key: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(1, name, &mut out);
        for (number, name, kind) in [(1, "key", key), (2, "value", value)] {
            let mut inner = Vec::new();
            put_text(1, name, &mut inner);
            put_number(3, number, &mut inner);
            self.put_kind(kind, &mut inner);
            put_bytes(2, &inner, &mut out);
        }
        let mut options = Vec::new();
        put_number(7, 1, &mut options);
        put_bytes(7, &options, &mut out);
        out
    }

    /// A field; `oneof` is its oneof's place, and whether that only stands for `optional`.
    fn field(
        &self,
        field: &Field,
        kind: &str,
        label: Option<Label>,
        oneof: Option<(u64, bool)>,
        extendee: Option<&str>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(1, &field.name, &mut out);
        if let Some(extendee) = extendee {
            put_text(2, extendee, &mut out);
        }
        put_int(3, field.number, &mut out);
        // What has no label in the text has none here, although compilers write `optional`: so does the registry.
        if let Some(label) = label {
            let label = match label {
                Label::Optional => 1,
                Label::Required => 2,
                Label::Repeated => 3,
            };
            put_number(4, label, &mut out);
        }
        if map_types(&field.kind).is_some() {
            put_number(5, MESSAGE, &mut out);
            put_text(6, kind, &mut out);
        } else {
            self.put_kind(kind, &mut out);
        }
        if let Some(default) = &field.default {
            put_text(7, default, &mut out);
        }
        put_options(8, &field.options, IN_FIELD, "field_meta", &mut out);
        if let Some((index, _)) = oneof {
            put_number(9, index, &mut out);
        }
        if let Some(name) = &field.json_name {
            put_text(10, name, &mut out);
        }
        if oneof.is_some_and(|(_, synthetic)| synthetic) {
            put_number(17, 1, &mut out);
        }
        out
    }

    fn put_kind(&self, kind: &str, out: &mut Vec<u8>) {
        if let Some((number, _)) = TYPES.iter().find(|(_, name)| *name == kind) {
            put_number(5, *number, out);
            return;
        }
        match self.names.kind(kind, &self.package, &self.path) {
            Kind::Enum(_) => put_number(5, ENUM, out),
            Kind::Message(..) | Kind::Map(..) => put_number(5, MESSAGE, out),
            Kind::Scalar | Kind::Unknown => {}
        }
        put_text(6, kind, out);
    }
}

/// The name that compilers give to the message of a map's entries.
fn entry_name(field: &str) -> String {
    let parts = field.split('_').map(|part| {
        let mut chars = part.chars();
        chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), chars.as_str()))
    });
    format!("{}Entry", parts.collect::<String>())
}

fn enum_bytes(declared: &Enum) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(1, &declared.name, &mut out);
    for constant in &declared.constants {
        let mut inner = Vec::new();
        put_text(1, &constant.name, &mut inner);
        put_int(2, constant.number, &mut inner);
        put_options(3, &constant.options, IN_CONSTANT, "enum_value_meta", &mut inner);
        put_bytes(2, &inner, &mut out);
    }
    put_options(3, &declared.options, IN_ENUM, "enum_meta", &mut out);
    for value in declared.reserved.iter().flatten() {
        match value {
            Reserved::Name(name) => put_text(5, name, &mut out),
            value => put_range(4, value, 0, &mut out),
        }
    }
    out
}

fn service_bytes(service: &Service) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(1, &service.name, &mut out);
    for call in &service.calls {
        let mut inner = Vec::new();
        put_text(1, &call.name, &mut inner);
        put_text(2, &call.request, &mut inner);
        put_text(3, &call.response, &mut inner);
        put_options(4, &call.options, IN_CALL, "", &mut inner);
        for (number, streams) in [(5, call.request_streams), (6, call.response_streams)] {
            if streams {
                put_number(number, 1, &mut inner);
            }
        }
        put_bytes(2, &inner, &mut out);
    }
    put_options(3, &service.options, IN_SERVICE, "", &mut out);
    out
}

fn put_options(number: u64, options: &[Choice], known: &[Known], meta_name: &str, out: &mut Vec<u8>) {
    let (mut inner, mut meta) = (Vec::new(), Vec::new());
    for option in options {
        let name = option.name.trim_start_matches('.');
        if option.custom {
            if !meta_name.is_empty() && name.strip_prefix("confluent.") == Some(meta_name) {
                put_meta(&option.value, &mut meta);
            }
            continue;
        }
        let Some((number, _, is)) = known.iter().find(|(_, known, _)| *known == name) else { continue };
        match (is, &option.value) {
            (Is::Text, Value::Text(text)) => put_text(*number, text, &mut inner),
            (Is::Bool, Value::Word(word)) => put_number(*number, u64::from(word == "true"), &mut inner),
            (Is::Enum(names), Value::Word(word)) => {
                if let Some((value, _)) = (0_u64..).zip(*names).find(|(_, name)| *name == word) {
                    put_number(*number, value, &mut inner);
                }
            }
            _ => {}
        }
    }
    if !meta.is_empty() {
        put_bytes(META, &meta, &mut inner);
    }
    if !inner.is_empty() {
        put_bytes(number, &inner, out);
    }
}

fn put_meta(value: &Value, out: &mut Vec<u8>) {
    let one = |name: &str, value: &Value, out: &mut Vec<u8>| {
        let list = match value {
            Value::List(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in list {
            match (name, value) {
                ("doc", Value::Text(text)) => put_text(1, text, out),
                ("tags", Value::Text(text)) => put_text(3, text, out),
                ("params", Value::Map(entry)) => {
                    let text = |name: &str| {
                        entry.iter().find(|(key, _)| key == name).map_or("", |(_, value)| match value {
                            Value::Text(text) => text.as_str(),
                            _ => "",
                        })
                    };
                    let mut inner = Vec::new();
                    put_text(1, text("key"), &mut inner);
                    put_text(2, text("value"), &mut inner);
                    put_bytes(2, &inner, out);
                }
                _ => {}
            }
        }
    };
    match value {
        Value::Inner(inner) => one(&inner.name, &inner.value, out),
        Value::Map(entries) => entries.iter().for_each(|(name, value)| one(name, value, out)),
        _ => {}
    }
}

fn put_range(number: u64, value: &Reserved, open: i32, out: &mut Vec<u8>) {
    let (first, last) = match value {
        Reserved::Number(only) => (*only, *only),
        Reserved::Range(first, last) => (*first, *last),
        Reserved::Name(_) => return,
    };
    let mut inner = Vec::new();
    put_int(1, first, &mut inner);
    put_int(2, last.saturating_add(open), &mut inner);
    put_bytes(number, &inner, out);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

fn put_number(number: u64, value: u64, out: &mut Vec<u8>) {
    put_varint(number << 3, out);
    put_varint(value, out);
}

fn put_int(number: u64, value: i32, out: &mut Vec<u8>) {
    put_number(number, i64::from(value).cast_unsigned(), out);
}

fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_text(number: u64, text: &str, out: &mut Vec<u8>) {
    put_bytes(number, text.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_descriptor_of_another_compiler() {
        // What protoc 5.29 makes of: syntax = "proto3"; package t; message M { int32 a = 1; map<string, N> m = 2; optional string o = 3;
        // oneof p { bool x = 4; } enum E { Z = 0; } repeated E e = 5 [packed = false]; } message N { reserved 2 to 4; }
        let text = "CgdhLnByb3RvEgF0IqEBCgFNEgkKAWEYASABKAUSFgoBbRgCIAMoCzILLnQuTS5NRW50cnkSDgoBbxgDIAEoCUgBiAEBEgsKAXgYBCABKAhIABIVCgFlGAUgAygOMgYudC5NLkVCAhAAGi4KBk1FbnRyeRILCgNrZXkYASABKAkSEwoFdmFsdWUYAiABKAsyBC50Lk46AjgBIgoKAUUSBQoBWhAAQgMKAXBCBAoCX28iCQoBTkoECAIQBWIGcHJvdG8z";
        let schema = parse(text, &[]).unwrap();
        insta::assert_snapshot!(schema.print(false), @r#"
        syntax = "proto3";
        package t;

        message M {
          int32 a = 1;
          repeated .t.M.MEntry m = 2;
          optional string o = 3;
          repeated .t.M.E e = 5 [packed = false];

          oneof p {
            bool x = 4;
          }

          message MEntry {
            option map_entry = true;
          
            string key = 1;
            .t.N value = 2;
          }
          enum E {
            Z = 0;
          }
        }
        message N {
          reserved 2 to 4;
        }
        "#);
        insta::assert_snapshot!(schema.print(true), @r#"
        syntax = "proto3";
        package t;

        message M {
          int32 a = 1;
          map<string, .t.N> m = 2;
          optional string o = 3;
          repeated .t.M.E e = 5 [packed = false];

          oneof p {
            bool x = 4;
          }

          enum E {
            Z = 0;
          }
        }
        message N {
          reserved 2 to 4;
        }
        "#);
        assert!(parse("AAAA", &[]).is_err());
        assert!(parse("Cg", &[]).is_err());
        // a field of number 0 is none, whatever its type
        for field in [&[0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0, 0], &[2, 0], &[5, 0, 0, 0, 0]] {
            assert!(parse(&STANDARD.encode(field), &[]).is_err(), "{field:?}");
        }
    }

    #[test]
    fn what_is_printed_of_an_odd_descriptor_means_the_same() {
        let import = |path: &str| STANDARD.encode([&[0x1a, path.len() as u8], path.as_bytes()].concat());
        // the first has numbers of eight and four bytes where imports stand
        let texts =
            ["GUUUUUUUUHUvHWUUUUU".to_owned(), import("a//b/./c/"), import("a\"; message X {} import \"b"), import("a\\\n\u{1}")];
        let printed = texts.map(|text| {
            let schema = parse(&text, &[]).unwrap();
            for normalize in [false, true] {
                let again = parse(&schema.print(normalize), &[]).unwrap();
                assert_eq!(again.print(normalize), schema.print(normalize));
            }
            schema.print(false)
        });
        assert_eq!(
            printed.each_ref().map(|text| text.trim()),
            ["", r#"import "a/b/c";"#, r#"import "a\"; message X {} import \"b";"#, "import \"a/\\n\u{1}\";"]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let text = r#"syntax = "proto3"; package p; import "google/protobuf/timestamp.proto"; import public "google/protobuf/empty.proto"; import "nobody.proto";
            option java_package = "j"; option optimize_for = SPEED; option (confluent.file_meta).doc = "d";
            message M { reserved 9, 20 to max, "gone"; option deprecated = true; int32 a = 1 [deprecated = true, json_name = "A"]; optional string o = 2;
              google.protobuf.Timestamp at = 3 [(confluent.field_meta) = { tags: ["x", "y"], params: [{ key: "k", value: "v" }] }];
              oneof pick { E e = 4; N n = 5; } map<string, N> some_ns = 6; repeated N ns = 7; message N { sint64 z = 8; enum I { J = -1; } } }
            enum E { reserved 5 to 7; option allow_alias = true; Z = 0; Y = 0; }
            service S { rpc Get (stream M) returns (M.N) { option idempotency_level = IDEMPOTENT; } }"#;
        let schema = parse(text, &[]).unwrap();
        let again = parse(&write(&schema), &[]).unwrap();
        insta::assert_snapshot!(again.print(true), @r#"
        syntax = "proto3";
        package p;

        import "google/protobuf/timestamp.proto";
        import public "google/protobuf/empty.proto";

        option (confluent.file_meta) = {
          doc: "d"
        };
        option java_package = "j";
        option optimize_for = SPEED;

        message M {
          reserved 9;
          reserved 20 to max;
          reserved "gone";

          option deprecated = true;

          int32 a = 1 [
            deprecated = true,
            json_name = "A"
          ];
          optional string o = 2;
          .google.protobuf.Timestamp at = 3 [(confluent.field_meta) = {
            params: {
              key: "k",
              value: "v"
            },
            tags: [
              "x",
              "y"
            ]
          }];
          map<string, .p.M.N> some_ns = 6;
          repeated .p.M.N ns = 7;

          oneof pick {
            .p.E e = 4;
            .p.M.N n = 5;
          }

          message N {
            sint64 z = 8;
          
            enum I {
              J = -1;
            }
          }
        }
        enum E {
          reserved 5 to 7;
          option allow_alias = true;
          Y = 0;
          Z = 0;
        }

        service S {
          rpc Get (stream .p.M) returns (.p.M.N) {
            option idempotency_level = IDEMPOTENT;
          };
        }
        "#);
        assert_eq!(write(&again), write(&parse(&write(&again), &[]).unwrap()));
    }
}
