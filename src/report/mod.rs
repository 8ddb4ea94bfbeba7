//! Plans and diagnostics as text, JSON and Markdown.
//!
//! Everything here renders values that others have made and decides nothing; strings in, strings out, never printed. Text
//! that users wrote is shown without its control characters, so that no file can steer a terminal.

mod diagnostics;
mod json;
mod markdown;
mod paint;
mod text;

pub use diagnostics::diagnostics;
pub use json::{diagnostics_json, plan_json};
pub use markdown::{MARKER, plan_markdown};
pub use text::{plan_text, summary};
