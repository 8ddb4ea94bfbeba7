//! Binding: every derivation's query resolved against the contracts of what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::codes;
use crate::model::product::{Derivation, Format};
use crate::model::row::Field;
use crate::model::{Diagnostic, Diagnostics, Mesh, Place, Product, RowType, Severity};
use crate::schema::{self, Columns};
use crate::sql::query::{Node, Query};
use crate::sql::{self, Relation, Relations, Target};

/// The mesh's queries and contracts, as far as they can be understood.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// Typed queries, by product.
    pub queries: BTreeMap<String, Query>,
    /// Contracts, declared or inferred, by product. A product without one is broken.
    pub contracts: BTreeMap<String, ProductContract>,
    /// All products, each after those it reads.
    pub order: Vec<String>,
    /// What each derivation reads, by product.
    pub reads: BTreeMap<String, BTreeSet<String>>,
    /// Why a product can't be bound, by product.
    pub broken: BTreeMap<String, Vec<Diagnostic>>,
    /// Why a product's own tests fail, by product; empty until somebody has run them.
    pub failing: BTreeMap<String, Vec<Diagnostic>>,
}

/// What a product's records look like.
#[derive(Debug, Clone)]
pub struct ProductContract {
    pub format: Format,
    /// The value's schema, as it is registered.
    pub value: String,
    /// The key's schema; `None` without a key.
    pub key: Option<String>,
    /// Fingerprint of the value's schema.
    pub fingerprint: String,
    /// The value's columns.
    pub row_type: Arc<RowType>,
    /// Whether the value's schema was made from the query.
    pub inferred: bool,
}

/// The products that a query joins with others.
pub fn joined_inputs(query: &Query) -> BTreeSet<String> {
    let mut inputs = BTreeSet::new();
    collect_joined(&query.root, false, &mut inputs);
    inputs.into_iter().filter_map(|input| query.inputs.get(input)).map(|input| input.product.clone()).collect()
}

fn collect_joined(node: &Node, joined: bool, inputs: &mut BTreeSet<usize>) {
    match node {
        Node::Scan { input, .. } => {
            if joined {
                inputs.insert(*input);
            }
        }
        _ => {
            let joins = matches!(node, Node::LookupJoin { .. } | Node::IntervalJoin { .. } | Node::TableJoin { .. });
            node.inputs().into_iter().for_each(|input| collect_joined(input, joined || joins, inputs));
        }
    }
}

/// Binds every derivation of `mesh`, in the order in which they read each other. What is wrong is returned beside what
/// could be bound, and kept by product in [`Bound::broken`], so that the rest can still be planned. What the manifests'
/// own diagnostics say is not said again.
pub fn bind(mesh: &Mesh) -> (Bound, Diagnostics) {
    let mut binding = Binding { bound: Bound::default(), relations: Known::default(), diagnostics: Vec::new() };
    let mut reads = BTreeMap::new();
    for product in mesh.products.values() {
        reads.insert(product.name.clone(), inputs(mesh, product));
        binding.relations.names.push(product.relation());
        if let Some((contract, columns)) = binding.declared(product) {
            binding.publish(product, contract, columns);
        }
    }
    binding.bound.reads =
        reads.iter().filter(|(_, r)| !r.is_empty()).map(|(name, r)| (name.clone(), r.keys().cloned().collect())).collect();
    while binding.bound.order.len() < mesh.products.len() {
        let done: BTreeSet<String> = binding.bound.order.iter().cloned().collect();
        let ready = reads.iter().find(|(name, inputs)| !done.contains(*name) && inputs.keys().all(|input| done.contains(input)));
        let next = match ready {
            Some((name, _)) => name.clone(),
            None => match binding.circle(&reads, &done) {
                Some(member) => member,
                None => break,
            },
        };
        if let Some(product) = mesh.products.get(&next) {
            binding.product(product, reads.get(&next).unwrap_or(&BTreeMap::new()));
        }
        binding.bound.order.push(next);
    }
    (binding.bound, binding.diagnostics)
}

/// The products that a derivation reads, each with the place where it first does.
fn inputs(mesh: &Mesh, product: &Product) -> BTreeMap<String, Place> {
    let mut inputs = BTreeMap::new();
    let Some(derivation) = product.derivation() else { return inputs };
    for (relation, place) in sql::reads(&derivation.sql).0 {
        if let Some(input) = mesh.product_of_relation(&relation) {
            inputs.entry(input.name.clone()).or_insert(place);
        }
    }
    inputs
}

struct Binding {
    bound: Bound,
    relations: Known,
    diagnostics: Diagnostics,
}

/// The relations that are known so far, by product: those that are declared from the start, those that are inferred as
/// soon as their query is bound.
#[derive(Default)]
struct Known {
    relations: BTreeMap<String, Arc<Relation>>,
    /// Of all products.
    names: Vec<String>,
}

impl Relations for Known {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        self.relations.get(name).or_else(|| self.relations.get(&name.replace('_', "-"))).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}

impl Binding {
    /// Says that the products of a circle read each other, and gives one of them to go on with.
    fn circle(&mut self, reads: &BTreeMap<String, BTreeMap<String, Place>>, done: &BTreeSet<String>) -> Option<String> {
        let open = |name: &String| reads.get(name).into_iter().flatten().filter(|(input, _)| !done.contains(*input));
        let mut path: Vec<String> = vec![reads.keys().find(|name| !done.contains(*name))?.clone()];
        // Every product that is left reads another that is left: following them comes back to where it has been.
        let start = loop {
            let (next, _) = open(path.last()?).next()?;
            match path.iter().position(|name| name == next) {
                Some(start) => break start,
                None => path.push(next.clone()),
            }
        };
        let circle = path.split_off(start);
        // Begin with the first by name, so that the message does not depend on how it was found.
        let first = circle.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(at, _)| at);
        let turned: Vec<&String> = circle.iter().cycle().skip(first).take(circle.len() + 1).collect();
        let shown = turned.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" -> ");
        let head = (*turned.first()?).clone();
        let mut diagnostic = Diagnostic::error(codes::CYCLE, None, format!("derivations read each other in a circle: {shown}"))
            .help("a product can't be made of itself; let one of them read something else");
        for pair in turned.windows(2) {
            if let [reader, input] = pair
                && let Some(place) = reads.get(*reader).and_then(|inputs| inputs.get(*input))
            {
                match diagnostic.place {
                    None => diagnostic.place = Some(place.clone()),
                    Some(_) => diagnostic.related.push((place.clone(), format!("{reader} reads {input} here"))),
                }
            }
        }
        for member in &circle {
            self.bound.broken.entry(member.clone()).or_default().push(diagnostic.clone());
        }
        self.diagnostics.push(diagnostic);
        Some(head)
    }

    fn product(&mut self, product: &Product, inputs: &BTreeMap<String, Place>) {
        let declared = self.declared(product);
        let query = match product.derivation() {
            // What stands in a circle is wrong already.
            Some(derivation) if !self.bound.broken.contains_key(&product.name) => self.query(product, derivation, inputs),
            _ => None,
        };
        let contract = match (declared, &query) {
            (Some(declared), query) => {
                if let (Some(query), Some(derivation)) = (query, product.derivation()) {
                    self.fulfils(product, derivation, &declared, query);
                }
                Some(declared)
            }
            (None, Some(query)) if product.contract.text.is_none() => self.inferred(product, query),
            (None, _) => None,
        };
        match contract {
            Some((contract, columns)) => self.publish(product, contract, columns),
            None => self.without_contract(product),
        }
        if let Some(query) = query {
            self.bound.queries.insert(product.name.clone(), query);
        }
    }

    fn publish(&mut self, product: &Product, contract: ProductContract, columns: Columns) {
        self.relations.relations.insert(product.name.clone(), Arc::new(relation(product, &contract, columns)));
        self.bound.contracts.insert(product.name.clone(), contract);
    }

    /// The contract that the manifest declares. What is wrong with its text the manifests' diagnostics have said.
    fn declared(&self, product: &Product) -> Option<(ProductContract, Columns)> {
        let text = product.contract.text.as_ref()?;
        let schema = schema::parse(product.contract.format, &text.text, &[]).ok()?;
        let columns = schema.columns();
        let row_type = Arc::new(columns.row_type.clone());
        let contract = contract(product, text.text.to_string(), schema.fingerprint(), row_type, false)?;
        Some((contract, columns))
    }

    fn query(&mut self, product: &Product, derivation: &Derivation, inputs: &BTreeMap<String, Place>) -> Option<Query> {
        let unknown = inputs.iter().find(|(input, _)| !self.relations.relations.contains_key(*input));
        if let Some((input, place)) = unknown {
            // Said where it went wrong; here it only follows.
            let reason = Diagnostic::error(
                codes::UNBOUND,
                place.clone(),
                format!("{} reads {input}, which can't be understood", product.name),
            );
            self.bound.broken.entry(product.name.clone()).or_default().push(reason);
            return None;
        }
        let target = Target { shape: product.shape, key: &product.key };
        let (query, diagnostics) = sql::bind(&derivation.sql, &self.relations, &target);
        self.broken(product, &diagnostics);
        self.diagnostics.extend(diagnostics);
        query
    }

    fn broken(&mut self, product: &Product, diagnostics: &[Diagnostic]) {
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).cloned();
        let errors: Vec<Diagnostic> = errors.collect();
        if !errors.is_empty() {
            self.bound.broken.entry(product.name.clone()).or_default().extend(errors);
        }
    }

    /// Says what the query's result lacks of the declared contract, at the column's line in the schema.
    fn fulfils(&mut self, product: &Product, derivation: &Derivation, declared: &(ProductContract, Columns), query: &Query) {
        let Some(text) = &product.contract.text else { return };
        let says = |mismatch: schema::Mismatch| {
            let column = &mismatch.column;
            let bytes = schema::locate(product.contract.format, &text.text, column);
            let in_query = derivation.sql.place(0..derivation.sql.text.len());
            let message = match column.as_str() {
                "" => format!("the query of {} does not fulfil its contract: it {}", product.name, mismatch.reason),
                _ => format!("the query of {} does not fulfil its contract: {column} {}", product.name, mismatch.reason),
            };
            let help = "change the query, or the schema";
            match bytes {
                Some(bytes) => Diagnostic::error(codes::UNFULFILLED, Place::new(text.file.clone(), bytes), message)
                    .help(help)
                    .related(in_query, "the query"),
                None => Diagnostic::error(codes::UNFULFILLED, in_query, message).help(help),
            }
        };
        let found: Diagnostics = schema::mismatches(&declared.1, &query.row_type).into_iter().map(says).collect();
        self.broken(product, &found);
        self.diagnostics.extend(found);
    }

    /// A contract made from the query's result.
    fn inferred(&mut self, product: &Product, query: &Query) -> Option<(ProductContract, Columns)> {
        let format = product.contract.format;
        let parsed = schema::from_row_type(format, &product.topic.name, &query.row_type).and_then(|text| {
            let schema = schema::parse(format, &text, &[]).map_err(|error| error.to_string())?;
            Ok((text, schema))
        });
        match parsed {
            Ok((text, schema)) => {
                let columns = schema.columns();
                let contract = contract(product, text, schema.fingerprint(), Arc::new(columns.row_type.clone()), true)?;
                Some((contract, columns))
            }
            Err(reason) => {
                let message = format!("the contract of {} can't be inferred: {reason}", product.name);
                let help = "cast the column to a type that the format has, or declare a schema with spec.schema.file";
                let diagnostic = Diagnostic::error(codes::NOT_INFERABLE, product.place("/spec/schema"), message).help(help);
                self.broken(product, std::slice::from_ref(&diagnostic));
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// A product without a contract is always broken; the reason was said elsewhere.
    fn without_contract(&mut self, product: &Product) {
        let message = format!("the contract of {} can't be read", product.name);
        let reason = Diagnostic::error(codes::UNBOUND, product.place("/spec/schema"), message);
        self.bound.broken.entry(product.name.clone()).or_insert_with(|| vec![reason]);
    }
}

fn contract(
    product: &Product,
    value: String,
    fingerprint: String,
    row_type: Arc<RowType>,
    inferred: bool,
) -> Option<ProductContract> {
    let fields: Option<Vec<Field>> = product.key.iter().map(|name| row_type.field_with_name(name).ok().cloned()).collect();
    let format = product.contract.format;
    let key = fields?;
    let key = (!key.is_empty()).then(|| schema::key_schema(format, &key));
    Some(ProductContract { format, value, key, fingerprint, row_type, inferred })
}

fn relation(product: &Product, contract: &ProductContract, columns: Columns) -> Relation {
    Relation {
        product: product.name.clone(),
        row_type: contract.row_type.clone(),
        unsupported: columns.unsupported,
        shape: product.shape,
        key: product.key.clone(),
        time_field: product.time.field.clone(),
        disorder_ms: product.time.disorder_ms,
    }
}
