//! Plans, diagnostics and results of tests as text, JSON, Markdown and JUnit.
//!
//! Everything here renders values that others have made and decides nothing; strings in, strings out, never printed. Text
//! that users wrote is shown without its control characters, so that no file can steer a terminal.

mod diagnostics;
pub mod explain;
mod json;
mod markdown;
mod paint;
mod text;
mod trial;

pub use diagnostics::diagnostics;
pub use explain::{explain_json, explain_mermaid, explain_text};
pub use json::{diagnostics_json, plan_json};
pub use markdown::{MARKER, plan_markdown};
pub use text::{plan_text, summary};
pub use trial::{tests_json, tests_junit, tests_text};
