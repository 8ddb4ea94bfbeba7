//! The dev broker's sources, compiled without the rest of `mesh`: they import nothing of it (tests/tidy.rs), and so a fuzz
//! target is built in minutes.

pub mod dev;
