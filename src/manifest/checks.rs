//! What documents say of each other, and of what they name: references, names of topics, keys, contracts.

use std::collections::BTreeMap;

use super::codes;
use super::contract;
use super::document::{DataProductSpec, Kind};
use super::read::{AllDeclared, Declared};
use super::walk::closest;
use crate::model::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::model::product::{Product, Shape};

/// Kafka's bound on a topic's name.
const MAX_TOPIC_NAME: usize = 249;

/// All checks over the whole mesh.
pub(super) fn across(diagnostics: &mut Diagnostics, declared: &AllDeclared<'_>, products: &BTreeMap<String, Product>) {
    for document in declared.products.values() {
        references(diagnostics, declared, document);
    }
    for product in products.values() {
        topic_name(diagnostics, product);
        key(diagnostics, product);
        contract::check(diagnostics, product);
    }
    topics_of_two(diagnostics, products);
}

fn references(diagnostics: &mut Diagnostics, all: &AllDeclared<'_>, document: &Declared<'_, DataProductSpec>) {
    let mut check = |code: Code, kind: Kind, name: &str, pointer: &str| {
        let known: Vec<&str> = all.names.get(&kind).into_iter().flatten().map(String::as_str).collect();
        if known.contains(&name) {
            return;
        }
        let help = match (closest(name, &known), known.is_empty()) {
            (Some(close), _) => format!("did you mean `{close}`?"),
            (None, true) => format!("declare it: `kind: {}` with `metadata: {{name: {name}}}`", kind.name()),
            (None, false) => format!("declared are {}", known.join(", ")),
        };
        let message = format!("there is no {} `{name}`", kind.noun());
        diagnostics.push(Diagnostic::error(code, document.place(pointer), message).help(help));
    };
    let spec = &document.spec;
    if let Some(domain) = &spec.domain {
        check(codes::UNKNOWN_DOMAIN, Kind::Domain, domain, "/spec/domain");
    }
    if let Some(team) = &spec.team {
        check(codes::UNKNOWN_TEAM, Kind::Team, team, "/spec/team");
    }
    for (index, test) in spec.tests.iter().flatten().enumerate() {
        for product in test.given.keys() {
            let escaped = product.replace('~', "~0").replace('/', "~1");
            check(codes::UNKNOWN_PRODUCT, Kind::DataProduct, product, &format!("/spec/tests/{index}/given/{escaped}"));
        }
    }
}

fn topic_name(diagnostics: &mut Diagnostics, product: &Product) {
    let name = &product.topic.name;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let (message, help) =
        if name.is_empty() || name.len() > MAX_TOPIC_NAME || matches!(name.as_str(), "." | "..") || !name.chars().all(fits) {
            ("Kafka takes no such topic name", "letters, digits, `.`, `_` and `-`, at most 249, and not `.` or `..`")
        } else if name.starts_with("__") || name == "_mesh" {
            ("the topic's name is reserved", "names that begin with `__` are Kafka's own, and `_mesh` is mesh's: take another")
        } else {
            return;
        };
    diagnostics.push(Diagnostic::error(codes::TOPIC_NAME, product.place("/spec/topic/name"), message).help(help));
}

fn topics_of_two(diagnostics: &mut Diagnostics, products: &BTreeMap<String, Product>) {
    // Kafka names its metrics after topics with `.` replaced, and refuses two that are then the same.
    let mut by_name: BTreeMap<String, &Product> = BTreeMap::new();
    let mut in_order: Vec<&Product> = products.values().collect();
    in_order.sort_by_key(|product| product.place(""));
    for product in in_order {
        let Some(first) = by_name.insert(product.topic.name.replace('.', "_"), product) else { continue };
        let message = if first.topic.name == product.topic.name {
            format!("the topic `{}` is `{}`'s already", product.topic.name, first.name)
        } else {
            format!("Kafka can't have the topics `{}` and `{}` side by side", product.topic.name, first.topic.name)
        };
        let mut diagnostic = Diagnostic::error(codes::TOPIC_TWICE, product.place("/spec/topic/name"), message);
        if let Some(place) = first.place("/spec/topic/name") {
            diagnostic = diagnostic.related(place, format!("the topic of `{}`", first.name));
        }
        diagnostics.push(diagnostic.help("give each product a topic of its own"));
    }
}

fn key(diagnostics: &mut Diagnostics, product: &Product) {
    if product.shape == Shape::Table && product.key.is_empty() {
        let message = format!("the table `{}` has no `key`", product.name);
        let help = "name the columns whose latest record is the value: `key: [id]`";
        diagnostics.push(Diagnostic::error(codes::KEY_MISSING, product.place("/spec/shape"), message).help(help));
    }
    for (index, column) in product.key.iter().enumerate() {
        if product.key[..index].contains(column) {
            let message = format!("the column `{column}` stands in the key twice");
            let place = product.place(&format!("/spec/key/{index}"));
            diagnostics.push(Diagnostic::error(codes::BAD_VALUE, place, message).help("remove one"));
        }
    }
}
