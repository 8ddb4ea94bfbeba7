//! What is published: the catalog, as it stands in Kafka.

use super::exit::Failure;
use super::load::{Loaded, unknown_product};
use crate::apply::Live;
use crate::plan::OwnTopics;
use crate::plan::entry::{Catalog, ProductEntry};

/// The whole catalog.
pub(super) async fn catalog(loaded: &Loaded) -> Result<Catalog, Failure> {
    let mut target = Live::connect(&loaded.mesh.environment, &loaded.mesh.root, OwnTopics::default()).await?;
    Ok(target.catalog().await?)
}

/// One published product.
pub(super) async fn product(loaded: &Loaded, name: &str) -> Result<ProductEntry, Failure> {
    let catalog = catalog(loaded).await?;
    find(&catalog, name).cloned()
}

/// A product of the catalog, its name written as in the manifest or as in SQL.
pub(super) fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a ProductEntry, Failure> {
    let found = catalog.products.get(name).or_else(|| catalog.products.get(&name.replace('_', "-")));
    found.ok_or_else(|| unknown_product(name, catalog.products.keys().map(String::as_str)))
}
