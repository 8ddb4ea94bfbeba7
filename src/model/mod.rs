//! The nouns: what the whole program talks about, without behaviour that needs the world.
//!
//! Nothing here reads a file, a clock or a network; every other room may import this one.

pub mod diagnostic;
pub mod environment;
pub mod mesh;
pub mod product;
pub mod resource;
pub mod row;
pub mod test;

pub use diagnostic::{Code, Diagnostic, Diagnostics, Place, Severity, Texts};
pub use environment::{Environment, Secret};
pub use mesh::{Domain, Mesh, Team};
pub use product::{Product, Shape};
pub use resource::ResourceId;
pub use row::RowType;
