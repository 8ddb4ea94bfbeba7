//! A plan as text.

use std::collections::BTreeMap;

use super::paint::{Paint, line};
use crate::model::{Place, ResourceId, Texts};
use crate::plan::step::{Action, Affected, Blocked, Change, Finding, Plan, RiskLevel, Step, Weight};

/// The plan, product by product, then what else a reader should know, and one line that sums it up.
pub fn plan_text(plan: &Plan, texts: &Texts, color: bool) -> String {
    let mut page = Page { out: String::new(), paint: Paint(color), texts };
    page.products(plan);
    page.findings(plan);
    page.not_yet(plan);
    page.left_alone(plan);
    page.out.push_str(&page.paint.bold(&summary(plan)));
    page.out.push('\n');
    page.out
}

/// The last line of a plan.
pub fn summary(plan: &Plan) -> String {
    let counts = plan.counts;
    if plan.steps.is_empty() && plan.blocked.is_empty() {
        return "No changes. The mesh matches the manifests.".into();
    }
    let blocked = if counts.blocked > 0 { format!(", {} blocked", counts.blocked) } else { String::new() };
    format!("Plan: {} to create, {} to change, {} to delete{blocked}.", counts.create, counts.change, counts.delete)
}

struct Page<'a> {
    out: String,
    paint: Paint,
    texts: &'a Texts,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn title(&mut self, title: &str) {
        let title = self.paint.bold(title);
        self.line(0, &title);
    }

    fn products(&mut self, plan: &Plan) {
        for (product, (steps, blocked)) in by_product(plan) {
            self.title(&product.map_or_else(|| "mesh".into(), line));
            for step in steps {
                self.step(step);
            }
            for entry in blocked {
                self.blocked(entry);
            }
            self.out.push('\n');
        }
    }

    fn step(&mut self, step: &Step) {
        let sign = match step.action {
            Action::Create => self.paint.green("+ create"),
            Action::Update => self.paint.yellow("~ change"),
            Action::Delete => self.paint.red("- delete"),
        };
        let fields = if step.action == Action::Create { creation(step) } else { String::new() };
        let detail = if fields.is_empty() { line(&step.comment) } else { fields };
        let resource = line(&step.resource.to_string());
        self.line(2, &format!("{sign} {resource}{}", self.paint.dim(&format!(": {detail}"))));
        if step.action == Action::Update {
            for change in &step.changes {
                self.line(6, &change_line(change));
            }
        }
        self.risk(step);
    }

    fn risk(&mut self, step: &Step) {
        if step.risk.level == RiskLevel::Safe {
            return;
        }
        let level = match step.risk.level {
            RiskLevel::Safe | RiskLevel::Caution => self.paint.yellow(step.risk.level.name()),
            RiskLevel::Breaking | RiskLevel::DestroysData => self.paint.red(step.risk.level.name()),
        };
        for reason in &step.risk.reasons {
            self.line(6, &format!("{level}: {}", line(reason)));
        }
        self.affected(&step.risk.affected);
    }

    fn blocked(&mut self, blocked: &Blocked) {
        let sign = self.paint.red("! blocked");
        self.line(2, &format!("{sign} {}: {} [{}]", line(&blocked.resource.to_string()), line(&blocked.reason), blocked.code));
        self.place(blocked.place.as_ref());
        for detail in &blocked.details {
            self.line(6, &format!("- {}", line(detail)));
        }
        self.line(6, &format!("help: {}", line(&blocked.help)));
    }

    fn place(&mut self, place: Option<&Place>) {
        if let Some(place) = place {
            let place = self.paint.dim(&format!("at {}", located(place, self.texts)));
            self.line(6, &place);
        }
    }

    fn affected(&mut self, affected: &[Affected]) {
        for affected in affected {
            self.line(6, &format!("concerns {}", contact(affected)));
        }
    }

    fn findings(&mut self, plan: &Plan) {
        if plan.findings.is_empty() {
            return;
        }
        self.title("Findings");
        for finding in &plan.findings {
            self.finding(finding);
        }
        self.out.push('\n');
    }

    fn finding(&mut self, finding: &Finding) {
        let weight = match finding.severity {
            Weight::Error => self.paint.red("error"),
            Weight::Warning => self.paint.yellow("warning"),
            Weight::Note => "note".into(),
        };
        self.line(2, &format!("{weight}[{}]: {}", finding.code, line(&finding.message)));
        self.place(finding.place.as_ref());
        self.affected(&finding.affected);
        if let Some(help) = &finding.help {
            self.line(6, &format!("help: {}", line(help)));
        }
    }

    fn not_yet(&mut self, plan: &Plan) {
        if plan.not_yet.is_empty() {
            return;
        }
        self.title("Read, but not carried out yet");
        let mut sections: BTreeMap<Option<&str>, Vec<String>> = BTreeMap::new();
        for entry in &plan.not_yet {
            sections.entry(entry.product.as_deref()).or_default().push(line(&entry.section));
        }
        for (product, sections) in sections {
            let name = product.map_or_else(|| format!("environment {}", line(&plan.environment)), line);
            self.line(2, &format!("{name}: {}", sections.join(", ")));
        }
        self.out.push('\n');
    }

    fn left_alone(&mut self, plan: &Plan) {
        if !plan.unmanaged.is_empty() {
            self.title("Set by others, left alone");
            for entry in &plan.unmanaged {
                self.line(2, &format!("topic {}: {} = {}", line(&entry.topic), line(&entry.key), line(&entry.value)));
            }
            self.out.push('\n');
        }
        if !plan.no_longer_declared.is_empty() {
            self.title("No longer declared");
            for entry in &plan.no_longer_declared {
                let resources: Vec<String> = entry.resources.iter().map(|r| line(&r.to_string())).collect();
                let what = if resources.is_empty() { String::new() } else { format!(" ({})", resources.join(", ")) };
                let fate = entry.kept.as_deref().map_or_else(|| "deleted".into(), |kept| format!("kept: {}", line(kept)));
                self.line(2, &format!("{}{what}: {fate}", line(&entry.product)));
            }
            self.out.push('\n');
        }
    }
}

/// Steps and blocked entries of each product, in the products' order; what belongs to none comes first.
pub(super) fn by_product(plan: &Plan) -> BTreeMap<Option<&str>, (Vec<&Step>, Vec<&Blocked>)> {
    let mut products: BTreeMap<Option<&str>, (Vec<&Step>, Vec<&Blocked>)> = BTreeMap::new();
    for step in &plan.steps {
        products.entry(step.product.as_deref()).or_default().0.push(step);
    }
    for blocked in &plan.blocked {
        products.entry(blocked.product.as_deref()).or_default().1.push(blocked);
    }
    products
}

/// What is created, in a few words: only topics have fields worth a line.
fn creation(step: &Step) -> String {
    if !matches!(step.resource, ResourceId::Topic(_)) {
        return String::new();
    }
    let field = |change: &Change| {
        let name = change.field.trim_start_matches("config.");
        format!("{} {}", line(name), line(change.to.as_deref().unwrap_or_default()))
    };
    step.changes.iter().map(field).collect::<Vec<_>>().join(", ")
}

/// One changed field.
pub(super) fn change_line(change: &Change) -> String {
    let field = line(change.field.trim_start_matches("config."));
    let shown = |value: &str| {
        let value = line(value);
        if value.chars().count() > 100 { format!("{}..", value.chars().take(100).collect::<String>()) } else { value }
    };
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{field}: {} -> {}", shown(from), shown(to)),
        (None, Some(to)) => format!("{field}: + {}", shown(to)),
        (Some(from), None) => format!("{field}: - {}", shown(from)),
        (None, None) => field,
    }
}

/// `file:line:column`.
pub(super) fn located(place: &Place, texts: &Texts) -> String {
    let (row, column) = texts.line_column(place);
    format!("{}:{row}:{column}", line(&place.file))
}

/// A product and whom to talk to.
pub(super) fn contact(affected: &Affected) -> String {
    let owner = affected.owner.as_deref().map(|owner| match affected.contact.as_deref() {
        Some(contact) => format!("{} <{}>", line(owner), line(contact)),
        None => line(owner),
    });
    let team = affected.team.as_deref().map(|team| match affected.channel.as_deref() {
        Some(channel) => format!("{} {}", line(team), line(channel)),
        None => line(team),
    });
    let whom: Vec<String> = owner.into_iter().chain(team).collect();
    if whom.is_empty() { line(&affected.product) } else { format!("{}: {}", line(&affected.product), whom.join(", ")) }
}
