//! Whose a resource is: what the catalog's entries and intents say.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ResourceId;
use crate::plan::desired::Desired;
use crate::plan::entry::{Catalog, Owned};

/// Who owns which resource.
pub(super) struct Ownership<'a> {
    claims: BTreeMap<ResourceId, Vec<Claim<'a>>>,
}

struct Claim<'a> {
    product: &'a str,
    /// Whether the product is declared by other manifests than those that are planned.
    foreign: bool,
    declared: bool,
    keys: BTreeSet<String>,
}

/// Whose a resource is, seen from one product.
pub(super) enum Whose {
    /// The product's, with the config keys that mesh has set.
    Ours(BTreeSet<String>),
    /// Nobody has recorded it.
    Nobody,
    /// Another product's.
    Of(String),
}

impl<'a> Ownership<'a> {
    pub(super) fn of(desired: &Desired, catalog: &'a Catalog) -> Self {
        let mut ownership = Ownership { claims: BTreeMap::new() };
        for (name, entry) in &catalog.products {
            ownership.claim(desired, name, &entry.root, &entry.owned);
        }
        for (name, intent) in &catalog.intents {
            ownership.claim(desired, name, &intent.root, &intent.owned);
        }
        ownership
    }

    fn claim(&mut self, desired: &Desired, product: &'a str, root: &str, owned: &Owned) {
        let topics = owned.topics.iter().map(|(name, topic)| (ResourceId::Topic(name.clone()), topic.config.clone()));
        let subjects = owned.subjects.iter().map(|name| (ResourceId::Subject(name.clone()), BTreeSet::new()));
        let declared = desired.products.contains_key(product);
        for (resource, keys) in topics.chain(subjects) {
            let claim = Claim { product, foreign: root != desired.root, declared, keys };
            self.claims.entry(resource).or_default().push(claim);
        }
    }

    /// Whose `resource` is, seen from `product`. What belonged to a product of the same root that is no longer
    /// declared passes to the one that now declares it: a product may be renamed.
    pub(super) fn whose(&self, product: &str, resource: &ResourceId) -> Whose {
        let claims = self.claims.get(resource).map(Vec::as_slice).unwrap_or_default();
        let other = claims.iter().find(|claim| claim.product != product && (claim.declared || claim.foreign));
        match (other, claims) {
            (Some(other), _) => Whose::Of(other.product.to_owned()),
            (None, []) => Whose::Nobody,
            (None, claims) => Whose::Ours(claims.iter().flat_map(|claim| claim.keys.iter().cloned()).collect()),
        }
    }
}
