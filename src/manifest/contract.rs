//! A product's contract: whether its text is a schema, and whether it has the columns that the manifest names.

use super::codes;
use super::walk::closest;
use crate::model::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::model::product::{Product, SchemaText};
use crate::model::row::{DataType, ROWTIME, type_name};
use crate::schema::{self, Columns};

/// Checks the contract's text, the key's columns and the time's.
pub(super) fn check(diagnostics: &mut Diagnostics, product: &Product) {
    let Some(text) = &product.contract.text else { return };
    match schema::parse(product.contract.format, &text.text, &[]) {
        Ok(schema) => columns(diagnostics, product, &schema.columns()),
        Err(error) => diagnostics.push(broken(text, product, &error)),
    }
}

fn broken(text: &SchemaText, product: &Product, error: &schema::SchemaError) -> Diagnostic {
    let place = Place::new(text.file.clone(), error.at.clone().unwrap_or(0..0));
    let message = format!("not a schema: {}", error.message);
    let diagnostic = Diagnostic::error(codes::CONTRACT_BROKEN, place, message).help(format!(
        "`{}` declares it as `{}`",
        product.name,
        product.contract.format.registry_name()
    ));
    match product.place("/spec/schema/file") {
        Some(place) => diagnostic.related(place, "named here"),
        None => diagnostic,
    }
}

fn columns(diagnostics: &mut Diagnostics, product: &Product, columns: &Columns) {
    let names: Vec<&str> = columns.row_type.fields().iter().map(|f| f.name().as_str()).collect();
    let lacking = |name: &str| match closest(name, &names) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("its columns are {}", names.join(", ")),
    };
    for (index, column) in product.key.iter().enumerate() {
        if !names.contains(&column.as_str()) {
            let message = format!("the key's column `{column}` is not in the contract");
            let place = product.place(&format!("/spec/key/{index}"));
            diagnostics.push(Diagnostic::error(codes::KEY_NOT_IN_CONTRACT, place, message).help(lacking(column)));
        }
    }
    let field = &product.time.field;
    if field == ROWTIME {
        return;
    }
    let place = product.place("/spec/time/field");
    match columns.row_type.fields().iter().find(|f| f.name() == field) {
        None => {
            let message = format!("the event time's column `{field}` is not in the contract");
            diagnostics.push(Diagnostic::error(codes::TIME_NOT_IN_CONTRACT, place, message).help(lacking(field)));
        }
        Some(column) if !matches!(column.data_type(), DataType::Timestamp(..)) => {
            let message = format!("the event time's column `{field}` is {}, not a timestamp", type_name(column.data_type()));
            let help = "a timestamp is a string with `format: date-time` in JSON Schema, a `timestamp-millis` in Avro";
            diagnostics.push(Diagnostic::error(codes::TIME_NOT_IN_CONTRACT, place, message).help(help));
        }
        Some(_) => {}
    }
}
