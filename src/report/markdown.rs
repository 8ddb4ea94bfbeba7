//! A plan as Markdown, for a pull request.

use std::collections::BTreeSet;

use super::paint::clean;
use super::text::{by_product, change_line, contact, located, summary};
use crate::model::Texts;
use crate::plan::step::{Action, Blocked, Plan, Resource, RiskLevel, Step, Weight};

/// The first line of every such comment, by which a bot finds the one to update.
pub const MARKER: &str = "<!-- mesh plan -->";

/// How long it may be, in bytes; a comment may have 65,536 characters.
const LONGEST: usize = 60_000;
/// What is kept free for the last note.
const RESERVE: usize = 400;
/// How many products the graph shows.
const MOST_NODES: usize = 60;

/// The plan: headline, table by product, findings, graph, and the differences in collapsed blocks as far as they fit.
pub fn plan_markdown(plan: &Plan, texts: &Texts) -> String {
    let mut page = Page { out: String::new(), left_out: 0 };
    let head = format!("{MARKER}\n## mesh plan for `{}`\n\n**{}**\n", code(&plan.environment), text(&summary(plan)));
    page.add(&head);
    page.add(&table(plan));
    page.add(&findings(plan, texts));
    page.add(&graph(plan));
    for (product, (steps, blocked)) in by_product(plan) {
        page.add(&details(product, &steps, &blocked, texts));
    }
    page.add(&rest(plan));
    if page.left_out > 0 {
        let note = format!("\n_{} sections did not fit; `mesh plan` shows everything._\n", page.left_out);
        page.out.push_str(&note);
    }
    page.out
}

struct Page {
    out: String,
    left_out: usize,
}

impl Page {
    /// Adds a section if it fits.
    fn add(&mut self, section: &str) {
        if section.is_empty() {
            return;
        }
        if self.out.len() + section.len() + 1 > LONGEST - RESERVE {
            self.left_out += 1;
            return;
        }
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(section);
    }
}

fn table(plan: &Plan) -> String {
    let products = by_product(plan);
    if products.is_empty() {
        return String::new();
    }
    let mut out = String::from("| product | create | change | delete | blocked | risk |\n|---|---|---|---|---|---|\n");
    for (product, (steps, blocked)) in products {
        let count = |action: Action| match steps.iter().filter(|step| step.action == action).count() {
            0 => String::new(),
            n => n.to_string(),
        };
        let risk = steps.iter().map(|step| step.risk.level).max().filter(|level| *level != RiskLevel::Safe);
        let row = [
            product.map_or_else(|| "_mesh itself_".to_owned(), text),
            count(Action::Create),
            count(Action::Update),
            count(Action::Delete),
            if blocked.is_empty() { String::new() } else { blocked.len().to_string() },
            risk.map_or_else(String::new, |level| format!("**{}**", level.name())),
        ];
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out
}

fn findings(plan: &Plan, texts: &Texts) -> String {
    if plan.findings.is_empty() {
        return String::new();
    }
    let mut out = String::from("### Findings\n\n");
    for finding in &plan.findings {
        let weight = match finding.severity {
            Weight::Error => "error",
            Weight::Warning => "warning",
            Weight::Note => "note",
        };
        let place = finding.place.as_ref().map(|place| format!(" (`{}`)", code(&located(place, texts)))).unwrap_or_default();
        out.push_str(&format!("- **{weight} {}**{place}: {}\n", finding.code, text(&finding.message)));
        for affected in &finding.affected {
            out.push_str(&format!("  - {}\n", text(&contact(affected))));
        }
        if let Some(help) = &finding.help {
            out.push_str(&format!("  - help: {}\n", text(help)));
        }
    }
    out
}

/// The products that are touched, with those next to them.
fn graph(plan: &Plan) -> String {
    let touched: BTreeSet<&str> = by_product(plan).into_keys().flatten().collect();
    let near = |product: &str, inputs: &BTreeSet<String>| {
        touched.contains(product) || inputs.iter().any(|i| touched.contains(i.as_str()))
    };
    let edges = plan.lineage.iter().filter(|(product, inputs)| near(product, inputs));
    let edges: Vec<(&str, &str)> = edges
        .flat_map(|(product, inputs)| inputs.iter().map(move |input| (input.as_str(), product.as_str())))
        .filter(|(input, product)| touched.contains(input) || touched.contains(product))
        .collect();
    let nodes: BTreeSet<&str> = edges.iter().flat_map(|(a, b)| [*a, *b]).chain(touched.iter().copied()).collect();
    if edges.is_empty() || nodes.len() > MOST_NODES {
        return String::new();
    }
    let number = |name: &str| nodes.iter().position(|node| *node == name).unwrap_or_default();
    let blocked: BTreeSet<&str> = plan.blocked.iter().filter_map(|b| b.product.as_deref()).collect();
    let mut out = String::from("```mermaid\nflowchart LR\n");
    for node in &nodes {
        let class = match (blocked.contains(node), touched.contains(node)) {
            (true, _) => ":::blocked",
            (false, true) => ":::touched",
            (false, false) => "",
        };
        out.push_str(&format!("  n{}[\"{}\"]{class}\n", number(node), label(node)));
    }
    for (from, to) in &edges {
        out.push_str(&format!("  n{} --> n{}\n", number(from), number(to)));
    }
    out.push_str(
        "  classDef touched stroke-width:3px\n  classDef blocked stroke:#c00,stroke-width:3px,stroke-dasharray:4\n```\n",
    );
    out
}

fn details(product: Option<&str>, steps: &[&Step], blocked: &[&Blocked], texts: &Texts) -> String {
    let mut lines = Vec::new();
    for step in steps {
        lines.extend(step_lines(step));
    }
    for entry in blocked {
        lines.push(format!("! blocked {}: {} [{}]", entry.resource, entry.reason, entry.code));
        lines.extend(entry.place.as_ref().map(|place| format!("!   at {}", located(place, texts))));
        lines.extend(entry.details.iter().map(|detail| format!("!   {detail}")));
        lines.push(format!("!   help: {}", entry.help));
    }
    let name = product.map_or_else(|| "mesh itself".to_owned(), text);
    let body = lines.iter().map(|line| clean(line).replace('\n', " ")).collect::<Vec<_>>().join("\n");
    let fence = fence(&body);
    format!("<details><summary>{name}</summary>\n\n{fence}diff\n{body}\n{fence}\n\n</details>\n")
}

fn step_lines(step: &Step) -> Vec<String> {
    let (sign, verb) = match step.action {
        Action::Create => ("+", "create"),
        Action::Update => ("!", "change"),
        Action::Delete => ("-", "delete"),
    };
    let mut lines = vec![format!("{sign} {verb} {}: {}", step.resource, step.comment)];
    for change in &step.changes {
        let field = change.field.trim_start_matches("config.");
        match step.action {
            Action::Update => {
                lines.extend(change.from.iter().map(|from| format!("-   {field}: {from}")));
                lines.extend(change.to.iter().map(|to| format!("+   {field}: {to}")));
            }
            Action::Create | Action::Delete => lines.push(format!("{sign}   {}", change_line(change))),
        }
    }
    if let (Action::Update, Some(Resource::Subject { text: from, .. }), Some(Resource::Subject { text: to, .. })) =
        (step.action, &step.from, &step.to)
    {
        lines.extend(line_diff(&laid_out(from), &laid_out(to)));
    }
    lines.extend(step.risk.reasons.iter().map(|reason| format!("!   {}: {reason}", step.risk.level.name())));
    lines
}

/// A schema's text in lines, whoever has taken the white space away; Avro and JSON Schema are both JSON.
fn laid_out(text: &str) -> String {
    let tree = serde_json::from_str::<serde_json::Value>(text).ok();
    tree.and_then(|tree| serde_json::to_string_pretty(&tree).ok()).unwrap_or_else(|| text.to_owned())
}

/// The lines that only one of two texts has, as far as they are few.
fn line_diff(from: &str, to: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    if before.len() > 2000 || after.len() > 2000 || from == to {
        return Vec::new();
    }
    let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let rest = (before.len() - same_start).min(after.len() - same_start);
    let same_end = before.iter().rev().zip(after.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let gone = before.get(same_start..before.len() - same_end).unwrap_or_default();
    let new = after.get(same_start..after.len() - same_end).unwrap_or_default();
    gone.iter().map(|line| format!("-     {line}")).chain(new.iter().map(|line| format!("+     {line}"))).collect()
}

fn rest(plan: &Plan) -> String {
    let mut out = String::new();
    for entry in &plan.no_longer_declared {
        let fate = entry.kept.as_deref().unwrap_or("deleted");
        out.push_str(&format!("- no longer declared: {}: {}\n", text(&entry.product), text(fate)));
    }
    for entry in &plan.unmanaged {
        out.push_str(&format!(
            "- set by others, left alone: topic {} `{}`\n",
            text(&entry.topic),
            code(&format!("{} = {}", entry.key, entry.value))
        ));
    }
    for entry in &plan.not_yet {
        let whose = entry.product.as_deref().unwrap_or("environment");
        out.push_str(&format!("- read, but not carried out yet: {} `{}`\n", text(whose), code(&entry.section)));
    }
    out
}

/// Text that Markdown and HTML take as it is, and that mentions nobody.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '\n' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// Text between single backticks.
fn code(text: &str) -> String {
    clean(text).replace('`', "'").replace(['\n', '|'], " ")
}

/// Text of a graph's node.
fn label(text: &str) -> String {
    clean(text).replace('"', "'").replace(['\n', '<', '>'], " ")
}

/// A fence longer than any in the text.
fn fence(body: &str) -> String {
    let longest = body.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}
