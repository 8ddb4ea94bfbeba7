//! Whether a new JSON Schema takes all that an old one took, by the rules of the registry.
//!
//! The old schema is the writer's, the new one the reader's. Only what makes them incompatible is kept; changes that the
//! registry also names but takes as compatible are not. A schema of the old side that is compared already, further out,
//! is not compared again, which ends recursion.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::Json;
use super::model::{ArrayShape, Criterion, Id, Model, Numeric, ObjectShape, Shape, Text};
use crate::schema::text::{MAX_NESTING, Number};
use crate::schema::{Finding, UNDECIDED};

/// How many pairs of schemas are compared before the whole is called undecided.
const MAX_PAIRS: usize = 200_000;

/// Why `reader` does not take all that `writer` takes; empty when it does.
pub(in crate::schema) fn incompatibilities(reader: &Json, writer: &Json) -> Vec<Finding> {
    let mut check = Check {
        open: HashSet::new(),
        branches: HashMap::new(),
        path: Vec::new(),
        found: Vec::new(),
        pairs: 0,
        depth: 0,
        stopped: None,
    };
    check.compare(Some(At::root(writer)), Some(At::root(reader)));
    match check.stopped {
        Some(message) => vec![Finding { kind: UNDECIDED, path: String::new(), message }],
        None => check.found,
    }
}

/// A schema of one side.
#[derive(Clone, Copy)]
struct At<'a> {
    model: &'a Model,
    id: Id,
}

impl<'a> At<'a> {
    fn root(json: &'a Json) -> At<'a> {
        At { model: &json.model, id: json.model.root }
    }

    fn shape(self) -> &'a Shape {
        self.model.shape(self.id)
    }

    fn to(self, id: Id) -> At<'a> {
        At { id, ..self }
    }

    fn maybe(self, id: Option<Id>) -> Option<At<'a>> {
        id.map(|id| self.to(id))
    }

    /// What tells schemas apart.
    fn identity(self) -> (usize, Id) {
        (std::ptr::from_ref(self.model).addr(), self.id)
    }
}

struct Check {
    /// Schemas of the old side that are being compared.
    open: HashSet<(usize, Id)>,
    /// Branches of combinations, each kind once.
    branches: HashMap<(usize, Id), Rc<[Id]>>,
    path: Vec<String>,
    found: Vec<Finding>,
    pairs: usize,
    depth: usize,
    /// Why the comparison was given up.
    stopped: Option<String>,
}

impl Check {
    fn compare(&mut self, old: Option<At<'_>>, new: Option<At<'_>>) {
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(_)) => return self.report("SCHEMA_ADDED"),
            _ => return,
        };
        self.pairs += 1;
        if self.depth > MAX_NESTING || self.pairs > MAX_PAIRS {
            self.stopped.get_or_insert_with(|| "the schemas nest or recurse too deep to be compared".into());
        }
        if self.stopped.is_some() {
            return;
        }
        self.depth += 1;
        self.compare_targets(old.to(old.model.target(old.id)), new.to(new.model.target(new.id)));
        self.depth -= 1;
    }

    fn compare_targets(&mut self, old: At<'_>, new: At<'_>) {
        if self.through_combination(old, new) {
            return;
        }
        if std::mem::discriminant(old.shape()) != std::mem::discriminant(new.shape()) {
            let takes_all = matches!(new.shape(), Shape::Empty | Shape::True);
            if !matches!(old.shape(), Shape::False) && !takes_all {
                self.report("TYPE_CHANGED");
            }
            return;
        }
        if !self.open.insert(old.identity()) {
            return;
        }
        match (old.shape(), new.shape()) {
            (Shape::Text(before), Shape::Text(after)) => self.texts(before, after),
            (Shape::Numeric(before), Shape::Numeric(after)) => self.numbers(before, after),
            (Shape::Const(before), Shape::Const(after)) if before.print(true) != after.print(true) => {
                self.report_at("const", "ENUM_ARRAY_CHANGED");
            }
            (Shape::Enum(before), Shape::Enum(after)) => {
                let set = |values: &[crate::schema::text::Value]| values.iter().map(|v| v.print(true)).collect::<BTreeSet<_>>();
                let (before, after) = (set(before), set(after));
                if before != after && !after.is_superset(&before) {
                    let narrowed = before.is_superset(&after);
                    self.report_at("enum", if narrowed { "ENUM_ARRAY_NARROWED" } else { "ENUM_ARRAY_CHANGED" });
                }
            }
            (Shape::Combined { .. }, Shape::Combined { .. }) => self.combinations(old, new),
            (Shape::Not(before), Shape::Not(after)) => {
                self.enter("not", |check| {
                    if !check.accepts(new.to(*after), old.to(*before)) {
                        check.report("NOT_TYPE_EXTENDED");
                    }
                });
            }
            (Shape::Object(before), Shape::Object(after)) => self.objects(old, before, new, after),
            (Shape::Array(before), Shape::Array(after)) => self.arrays(old, before, new, after),
            _ => {}
        }
        self.open.remove(&old.identity());
    }

    /// Compares a combination with what is none by its branches; true when that settles it.
    fn through_combination(&mut self, old: At<'_>, new: At<'_>) -> bool {
        match (old.shape(), new.shape()) {
            (Shape::Combined { .. }, Shape::Combined { .. }) => false,
            (_, Shape::Combined { criterion, branches, .. }) => match branches.as_slice() {
                [only] => self.accepts(old, new.to(*only)),
                _ if *criterion == Criterion::All => false,
                branches => branches.iter().any(|branch| self.accepts(old, new.to(*branch))),
            },
            (Shape::Combined { criterion, branches, .. }, _) => match branches.as_slice() {
                [only] => self.accepts(old.to(*only), new),
                branches if *criterion == Criterion::All => branches.iter().any(|branch| self.accepts(old.to(*branch), new)),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether a pair is compatible; what is found wrong is forgotten.
    fn accepts(&mut self, old: At<'_>, new: At<'_>) -> bool {
        self.accepts_keeping(old, new, false)
    }

    fn accepts_keeping(&mut self, old: At<'_>, new: At<'_>, keep: bool) -> bool {
        let before = self.found.len();
        self.compare(Some(old), Some(new));
        let fine = self.found.len() == before;
        if !keep {
            self.found.truncate(before);
        }
        fine && self.stopped.is_none()
    }

    fn combinations(&mut self, old: At<'_>, new: At<'_>) {
        let (Shape::Combined { criterion, branches, .. }, Shape::Combined { criterion: after, branches: new_branches, .. }) =
            (old.shape(), new.shape())
        else {
            return;
        };
        let single = |branches: &[Id]| branches.len() == 1;
        let extended = *after == Criterion::Any
            || (single(branches) && (single(new_branches) || *after == Criterion::One))
            || (single(new_branches) && *criterion == Criterion::All);
        if criterion != after && !extended {
            return self.report("COMBINED_TYPE_CHANGED");
        }
        let (olds, news) = (self.distinct(old, branches), self.distinct(new, new_branches));
        if olds.len() < news.len() && *after == Criterion::All {
            self.report("PRODUCT_TYPE_EXTENDED");
        }
        if olds.len() > news.len() && *criterion != Criterion::All {
            self.report("SUM_TYPE_NARROWED");
        }
        let mut edges = Vec::new();
        for (at, branch) in olds.iter().enumerate() {
            let step = format!("{}/{at}", criterion.name());
            self.enter(&step, |check| {
                edges.push(news.iter().map(|candidate| check.accepts(old.to(*branch), new.to(*candidate))).collect());
            });
        }
        if largest_matching(&edges, news.len()) < olds.len().min(news.len()) {
            self.report("COMBINED_TYPE_SUBSCHEMAS_CHANGED");
        }
    }

    /// Branches that print alike count once.
    fn distinct(&mut self, at: At<'_>, branches: &[Id]) -> Rc<[Id]> {
        let known = self.branches.entry(at.identity()).or_insert_with(|| {
            let mut seen = HashSet::new();
            branches.iter().copied().filter(|id| seen.insert(at.model.print(*id))).collect()
        });
        known.clone()
    }

    fn texts(&mut self, before: &Text, after: &Text) {
        self.upper("maxLength", before.max_length, after.max_length, ["MAX_LENGTH_ADDED", "MAX_LENGTH_DECREASED"]);
        self.lower("minLength", before.min_length, after.min_length, ["MIN_LENGTH_ADDED", "MIN_LENGTH_INCREASED"]);
        match (&before.pattern, &after.pattern) {
            (None, Some(_)) => self.report_at("pattern", "PATTERN_ADDED"),
            (Some(before), Some(after)) if before != after => self.report_at("pattern", "PATTERN_CHANGED"),
            _ => {}
        }
    }

    fn numbers(&mut self, before: &Numeric, after: &Numeric) {
        let value = |number: &Option<Number>| number.as_ref().map(Number::as_f64);
        self.upper("maximum", value(&before.maximum), value(&after.maximum), ["MAXIMUM_ADDED", "MAXIMUM_DECREASED"]);
        self.lower("minimum", value(&before.minimum), value(&after.minimum), ["MINIMUM_ADDED", "MINIMUM_INCREASED"]);
        let (limit, new_limit) = (value(&before.exclusive_maximum), value(&after.exclusive_maximum));
        // A limit that falls is held against the new `maximum`, where there is one; where there is none the registry
        // fails, and it is held against the new limit here.
        let held_against = match (limit, new_limit, value(&after.maximum)) {
            (Some(limit), Some(new_limit), Some(maximum))
                if limit >= new_limit && before.exclusive_maximum != after.exclusive_maximum =>
            {
                Some(maximum)
            }
            _ => new_limit,
        };
        self.upper("exclusiveMaximum", limit, held_against, ["EXCLUSIVE_MAXIMUM_ADDED", "EXCLUSIVE_MAXIMUM_DECREASED"]);
        let (limit, new_limit) = (value(&before.exclusive_minimum), value(&after.exclusive_minimum));
        self.lower("exclusiveMinimum", limit, new_limit, ["EXCLUSIVE_MINIMUM_ADDED", "EXCLUSIVE_MINIMUM_INCREASED"]);
        self.multiples(before.multiple_of.as_ref(), after.multiple_of.as_ref());
        if !before.integer && after.integer {
            self.report("TYPE_NARROWED");
        }
    }

    fn multiples(&mut self, before: Option<&Number>, after: Option<&Number>) {
        let (before, after) = match (before, after) {
            (None, Some(_)) => return self.report_at("multipleOf", "MULTIPLE_OF_ADDED"),
            (Some(before), Some(after)) if before != after => (before, after),
            _ => return,
        };
        // Whole parts are compared, in 32 bits. Where one is zero the registry fails; that counts as a change here.
        #[expect(clippy::cast_possible_truncation, reason = "this is how the registry compares them")]
        let (old, new) = (before.as_f64() as i64 as i32, after.as_f64() as i64 as i32);
        let kind = match (new.checked_rem(old), old.checked_rem(new)) {
            (Some(0), _) => "MULTIPLE_OF_EXPANDED",
            (Some(_), Some(0)) => return,
            _ => "MULTIPLE_OF_CHANGED",
        };
        self.report_at("multipleOf", kind);
    }

    fn objects(&mut self, old: At<'_>, before: &ObjectShape, new: At<'_>, after: &ObjectShape) {
        for (name, _) in &before.properties {
            let Some(property) = after.property(name) else { continue };
            let added = !before.required.contains(name) && after.required.contains(name);
            if added && !new.model.node(property).has_default {
                self.enter("required", |check| check.report_at(name, "REQUIRED_ATTRIBUTE_ADDED"));
            }
        }
        self.enter("properties", |check| {
            for (name, id) in &before.properties {
                check.enter(name, |check| match after.property(name) {
                    Some(property) => check.compare(Some(old.to(*id)), Some(new.to(property))),
                    None => check.property_removed(name, old.to(*id), new, after),
                });
            }
            for (name, id) in after.properties.iter().filter(|(name, _)| before.property(name).is_none()) {
                check.enter(name, |check| check.property_added(name, old, before, new.to(*id), after));
            }
        });
        self.dependencies(old, before, new, after);
        self.enter("additionalProperties", |check| match (before.additional_schema, after.additional_schema) {
            _ if before.additional && !after.additional => check.report("ADDITIONAL_PROPERTIES_REMOVED"),
            _ if before.additional != after.additional => {}
            (None, Some(_)) => check.report("ADDITIONAL_PROPERTIES_NARROWED"),
            (Some(_), None) => {}
            (before, after) => check.compare(old.maybe(before), new.maybe(after)),
        });
        self.upper("maxProperties", before.max, after.max, ["MAX_PROPERTIES_ADDED", "MAX_PROPERTIES_DECREASED"]);
        self.lower("minProperties", before.min, after.min, ["MIN_PROPERTIES_ADDED", "MIN_PROPERTIES_INCREASED"]);
    }

    fn property_removed(&mut self, name: &str, old: At<'_>, new: At<'_>, after: &ObjectShape) {
        if open(after) {
            return;
        }
        match self.covering(name, after) {
            Some(cover) if self.accepts_keeping(old, new.to(cover), true) => {}
            Some(_) => self.report("PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"),
            None if matches!(old.shape(), Shape::False) => {}
            None => self.report("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"),
        }
    }

    fn property_added(&mut self, name: &str, old: At<'_>, before: &ObjectShape, new: At<'_>, after: &ObjectShape) {
        if open(before) {
            if !matches!(new.shape(), Shape::Empty | Shape::True) {
                self.report("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL");
            }
            return;
        }
        if let Some(cover) = self.covering(name, before)
            && !self.accepts_keeping(old.to(cover), new, true)
        {
            self.report("PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL");
        }
        if after.required.contains(name) && !new.model.node(new.id).has_default {
            self.report("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL");
        }
    }

    /// The schema that an undeclared property of this name must fulfil.
    fn covering(&mut self, name: &str, object: &ObjectShape) -> Option<Id> {
        for (pattern, id) in &object.patterns {
            match &pattern.regex {
                Some(regex) if regex.is_match(name) => return Some(*id),
                Some(_) => {}
                None => {
                    let message = format!("whether property {name:?} matches the pattern {:?} can't be decided", pattern.text);
                    self.stopped.get_or_insert(message);
                }
            }
        }
        object.additional_schema
    }

    fn dependencies(&mut self, old: At<'_>, before: &ObjectShape, new: At<'_>, after: &ObjectShape) {
        self.enter("dependencies", |check| {
            for (name, names) in &after.array_dependencies {
                match before.array_dependencies.get(name) {
                    None => check.report_at(name, "DEPENDENCY_ARRAY_ADDED"),
                    Some(known) if known.is_superset(names) => {}
                    Some(known) if names.is_superset(known) => check.report_at(name, "DEPENDENCY_ARRAY_EXTENDED"),
                    Some(_) => check.report_at(name, "DEPENDENCY_ARRAY_CHANGED"),
                }
            }
            for (name, id) in &after.schema_dependencies {
                match before.schema_dependencies.get(name) {
                    None => check.report_at(name, "DEPENDENCY_SCHEMA_ADDED"),
                    Some(known) => check.enter(name, |check| check.compare(Some(old.to(*known)), Some(new.to(*id)))),
                }
            }
        });
    }

    fn arrays(&mut self, old: At<'_>, before: &ArrayShape, new: At<'_>, after: &ArrayShape) {
        self.enter("items", |check| check.compare(old.maybe(before.all_items), new.maybe(after.all_items)));
        for at in 0..before.items.len().max(after.items.len()) {
            let (item, new_item) = (old.maybe(before.items.get(at).copied()), new.maybe(after.items.get(at).copied()));
            self.enter(&format!("items/{at}"), |check| match (item, new_item) {
                (Some(item), None) => check.item_removed(item, new, after),
                (None, Some(new_item)) => check.item_added(old, before, new_item),
                pair => check.compare(pair.0, pair.1),
            });
        }
        self.enter("additionalItems", |check| match (before.additional_schema, after.additional_schema) {
            _ if before.additional && !after.additional => check.report("ADDITIONAL_ITEMS_REMOVED"),
            _ if before.additional != after.additional => {}
            (None, Some(_)) => check.report("ADDITIONAL_ITEMS_NARROWED"),
            (Some(_), None) => {}
            (before, after) => check.compare(old.maybe(before), new.maybe(after)),
        });
        self.upper("maxItems", before.max, after.max, ["MAX_ITEMS_ADDED", "MAX_ITEMS_DECREASED"]);
        self.lower("minItems", before.min, after.min, ["MIN_ITEMS_ADDED", "MIN_ITEMS_INCREASED"]);
        if !before.unique && after.unique {
            self.report_at("uniqueItems", "UNIQUE_ITEMS_ADDED");
        }
    }

    fn item_removed(&mut self, item: At<'_>, new: At<'_>, after: &ArrayShape) {
        match after.additional_schema {
            Some(cover) if self.accepts_keeping(item, new.to(cover), true) => {}
            Some(_) => self.report("ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"),
            None if after.additional || matches!(item.shape(), Shape::False) => {}
            None => self.report("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL"),
        }
    }

    fn item_added(&mut self, old: At<'_>, before: &ArrayShape, item: At<'_>) {
        match before.additional_schema {
            Some(cover) if self.accepts_keeping(old.to(cover), item, true) => {}
            Some(_) => self.report("ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"),
            None if before.additional && !matches!(item.shape(), Shape::Empty | Shape::True) => {
                self.report("ITEM_ADDED_TO_OPEN_CONTENT_MODEL");
            }
            None => {}
        }
    }

    /// An upper limit that comes or falls.
    fn upper<T: PartialOrd>(&mut self, key: &str, before: Option<T>, after: Option<T>, [added, decreased]: [&'static str; 2]) {
        match (before, after) {
            (None, Some(_)) => self.report_at(key, added),
            (Some(before), Some(after)) if before > after => self.report_at(key, decreased),
            _ => {}
        }
    }

    /// A lower limit that comes or rises.
    fn lower<T: PartialOrd>(&mut self, key: &str, before: Option<T>, after: Option<T>, [added, increased]: [&'static str; 2]) {
        match (before, after) {
            (None, Some(_)) => self.report_at(key, added),
            (Some(before), Some(after)) if before < after => self.report_at(key, increased),
            _ => {}
        }
    }

    fn enter(&mut self, step: &str, inside: impl FnOnce(&mut Self)) {
        self.path.push(step.to_owned());
        inside(self);
        self.path.pop();
    }

    fn report_at(&mut self, step: &str, kind: &'static str) {
        self.enter(step, |check| check.report(kind));
    }

    fn report(&mut self, kind: &'static str) {
        let path = format!("#/{}", self.path.join("/"));
        let message = words(kind, &self.path);
        // The registry prints no path for this kind.
        let path = if kind == "SCHEMA_ADDED" { String::new() } else { path };
        self.found.push(Finding { kind, path, message });
    }
}

fn open(object: &ObjectShape) -> bool {
    object.patterns.is_empty() && object.additional_schema.is_none() && object.additional
}

/// How many rows can be paired with a column each, at most.
fn largest_matching(edges: &[Vec<bool>], columns: usize) -> usize {
    fn pair(row: usize, edges: &[Vec<bool>], seen: &mut [bool], taken: &mut [Option<usize>]) -> bool {
        for column in 0..taken.len() {
            let edge = edges.get(row).and_then(|row| row.get(column)).copied().unwrap_or(false);
            match seen.get_mut(column) {
                Some(seen) if edge && !*seen => *seen = true,
                _ => continue,
            }
            let holder = taken.get(column).copied().flatten();
            if holder.is_none_or(|holder| pair(holder, edges, seen, taken)) {
                if let Some(place) = taken.get_mut(column) {
                    *place = Some(row);
                }
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; columns];
    (0..edges.len()).filter(|row| pair(*row, edges, &mut vec![false; columns], &mut taken)).count()
}

/// A kind of change in words. `{reader}` is the new schema.
fn words(kind: &str, path: &[String]) -> String {
    let keyword = |name: &str| matches!(name, "properties" | "items" | "required" | "additionalProperties" | "additionalItems");
    let place: Vec<&str> = path.iter().map(String::as_str).filter(|step| !keyword(step)).collect();
    let subject = match place.as_slice() {
        [] => "the schema".to_owned(),
        steps => format!("\"{}\"", steps.join(".")),
    };
    let what = match kind {
        "TYPE_CHANGED" => "has another type in {reader} than in {writer}",
        "TYPE_NARROWED" => "is an integer in {reader}, any number in {writer}",
        "SCHEMA_ADDED" => "is restricted in {reader}, not in {writer}",
        "ENUM_ARRAY_NARROWED" => "allows fewer values in {reader} than in {writer}",
        "ENUM_ARRAY_CHANGED" => "lacks in {reader} values that {writer} allows",
        "REQUIRED_ATTRIBUTE_ADDED" => "is required in {reader} and optional in {writer}; a default would make it compatible",
        "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL" => {
            "is required in {reader} and does not exist in {writer}; a default would make it compatible"
        }
        "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL" => {
            "is declared in {reader} only, while {writer} allows any undeclared property, of any type; \"additionalProperties\": false \
             in it would make this compatible"
        }
        "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" => "exists in {writer} only, and {reader} allows no undeclared properties",
        "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "differs in {reader} from what {writer} allows for undeclared properties"
        }
        "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "is not declared in {reader} and differs in {writer} from what is allowed for undeclared properties"
        }
        "ADDITIONAL_PROPERTIES_REMOVED" => "allows undeclared properties in {writer} and none in {reader}",
        "ADDITIONAL_PROPERTIES_NARROWED" => "restricts undeclared properties in {reader}, not in {writer}",
        "ADDITIONAL_ITEMS_REMOVED" => "allows further items in {writer} and none in {reader}",
        "ADDITIONAL_ITEMS_NARROWED" => "restricts further items in {reader}, not in {writer}",
        "ITEM_ADDED_TO_OPEN_CONTENT_MODEL" => "is declared in {reader} only, while {writer} allows any further item",
        "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL" => "exists in {writer} only, and {reader} allows no further items",
        "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "differs in {reader} from what {writer} allows for further items"
        }
        "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "is not declared in {reader} and differs in {writer} from what is allowed for further items"
        }
        "COMBINED_TYPE_CHANGED" => "combines its alternatives in another way in {reader} than in {writer}",
        "COMBINED_TYPE_SUBSCHEMAS_CHANGED" => "has alternatives in {writer} that match none in {reader}",
        "PRODUCT_TYPE_EXTENDED" => "must fulfil more in {reader} than in {writer}",
        "SUM_TYPE_NARROWED" => "has fewer alternatives in {reader} than in {writer}",
        "NOT_TYPE_EXTENDED" => "excludes in {reader} what {writer} allows",
        "DEPENDENCY_ARRAY_ADDED" | "DEPENDENCY_SCHEMA_ADDED" => "depends on something in {reader} and not in {writer}",
        "DEPENDENCY_ARRAY_EXTENDED" | "DEPENDENCY_ARRAY_CHANGED" => "depends on something else in {reader} than in {writer}",
        "PATTERN_CHANGED" | "MULTIPLE_OF_CHANGED" => "differs between {reader} and {writer}",
        _ if kind.ends_with("_ADDED") => "is said in {reader} and not in {writer}",
        _ => "is stricter in {reader} than in {writer}",
    };
    format!("{subject} {what}")
}
