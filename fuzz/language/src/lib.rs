//! The pure rooms' sources, compiled without the rest of `mesh`.

#[path = "../../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../../src/format/mod.rs"]
pub mod format;
#[path = "../../../src/model/mod.rs"]
pub mod model;
#[path = "../../../src/schema/mod.rs"]
pub mod schema;
#[path = "../../../src/sql/mod.rs"]
pub mod sql;
