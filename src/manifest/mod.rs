//! YAML to products: reading, checking and resolving manifests, with a place for every complaint.
//!
//! One manifest's way: `yaml` makes a tree of nodes that know where they stand; `walk` checks it against the format that
//! `document` defines, rendering templates (`template`) or variables (`environment`) on the way; `product` and
//! `environment` fill in what was left out; `checks` and `contract` hold the documents against each other and against
//! their schemas. `read` leads, `files` says what may be opened, `disk` opens it.
//!
//! **Invariant:** only `disk` touches the file system, and only below the project root.

mod checks;
pub mod codes;
mod contract;
pub mod disk;
pub mod document;
pub mod edit;
mod environment;
mod field;
mod files;
mod json_schema;
mod product;
mod read;
mod template;
mod trial;
pub mod units;
mod walk;
pub mod yaml;

pub use disk::Disk;
pub use environment::Overrides;
pub use field::field;
pub use files::Files;
pub use json_schema::{API_VERSION, json_schema};
pub use read::read;
pub use walk::closest;
