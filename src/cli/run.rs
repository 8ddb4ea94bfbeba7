//! `mesh run`: runs sources and derivations until it is told to stop, or all inputs are drained.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests, unknown_product};
use super::out::{Out, table};
use crate::run::{Counts, Event, Options, Run, Watch};

/// Run sources and derivations, exactly once
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only these products
    names: Vec<String>,

    #[command(flatten)]
    manifests: Manifests,

    /// End when all inputs are drained and every derivation has caught up
    #[arg(long)]
    until_idle: bool,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(&arguments.manifests, out)?;
    for name in &arguments.names {
        if !loaded.mesh.products.contains_key(name) {
            return Err(unknown_product(name, loaded.mesh.products.keys().map(String::as_str)));
        }
    }
    let options = Options { only: arguments.names.clone(), until_idle: arguments.until_idle };
    let watch = Watch::new(&loaded.mesh, &options);
    if watch.counts().is_empty() {
        out.talk("nothing to run: no product has a source or a derivation");
        return Ok(Exit::Worked);
    }
    let began = Instant::now();
    let view = View::new(Shape::Line, out);
    let runtime = super::runtime()?;
    let mut signals = runtime.block_on(async { Signals::new() });
    let told_to_stop = drive(&loaded, options, &watch, &view, (&runtime, &mut signals), out)?;
    out.data(&summary(&watch, None))?;
    let ended = if told_to_stop { "stopped, all that was done is committed" } else { "drained" };
    out.talk(&format!("{ended}, after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(Exit::Worked)
}

/// Runs; tells whether it was a signal that ended it.
pub(super) fn drive(
    loaded: &Loaded,
    options: Options,
    watch: &Watch,
    view: &View,
    (runtime, signals): (&tokio::runtime::Runtime, &mut Signals),
    out: &Out,
) -> Result<bool, Failure> {
    let events = |event: Event| view.say(&event, out);
    let signalled = AtomicBool::new(false);
    let run = runtime.block_on(Run::prepare(&loaded.mesh, &loaded.bound, options, watch, &events))?;
    let done = tokio::sync::Notify::new();
    let ended = std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let ended = run.run();
            done.notify_one();
            ended
        });
        runtime.block_on(watch_over(watch, view, &done, signals, &signalled));
        driver.join()
    });
    view.bar.finish_and_clear();
    match ended {
        Ok(ended) => ended?,
        Err(_) => return Err(Failure::new(Exit::Failed, "a job ended unexpectedly: please report this")),
    }
    Ok(signalled.load(Ordering::Relaxed))
}

/// Shows progress and listens for signals until the run has ended.
async fn watch_over(watch: &Watch, view: &View, done: &tokio::sync::Notify, signals: &mut Signals, signalled: &AtomicBool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            () = done.notified() => return,
            _ = ticks.tick() => view.show(watch),
            () = signals.next() => {
                signalled.store(true, Ordering::Relaxed);
                watch.stop();
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// To be called in a runtime; from then on signals no longer end the process by themselves.
    pub(super) fn new() -> Signals {
        Signals {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok(),
        }
    }

    /// Ends when the next signal comes.
    pub(super) async fn next(&mut self) {
        let terminated = async {
            #[cfg(unix)]
            if let Some(terminate) = &mut self.terminate {
                terminate.recv().await;
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
    }
}

/// How much of the terminal a run takes while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Sums, in one line.
    Line,
    /// A line for each product.
    Table,
}

/// What is shown on a terminal while a run goes on.
pub(super) struct View {
    bar: ProgressBar,
    shape: Shape,
    /// The last thing that went wrong, by product.
    troubles: Mutex<BTreeMap<String, String>>,
}

impl View {
    pub(super) fn new(shape: Shape, out: &Out) -> View {
        let bar = if out.watched { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let template = if shape == Shape::Line { "{spinner} {elapsed} {wide_msg}" } else { "{msg}\n{spinner} {elapsed}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if out.watched {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        View { bar, shape, troubles: Mutex::default() }
    }

    fn show(&self, watch: &Watch) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_message(match self.shape {
            Shape::Line => line(watch),
            Shape::Table => self.table(watch),
        });
    }

    /// A line for each product, none wider than the terminal: a line that wraps could not be drawn over.
    fn table(&self, watch: &Watch) -> String {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
        let row = |(product, counts): (&String, &Counts)| {
            let trouble = troubles.get(product).cloned().unwrap_or_default();
            vec![product.clone(), number(&counts.records_in), number(&counts.records_out), number(&counts.lag), trouble]
        };
        let rows: Vec<Vec<String>> = watch.counts().iter().map(row).collect();
        let width = console::Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns));
        let text = table(&["PRODUCT", "READ", "WRITTEN", "LAG", "LAST ERROR"], &rows);
        text.lines().map(|line| line.chars().take(width).collect::<String>()).collect::<Vec<_>>().join("\n")
    }

    fn say(&self, event: &Event, out: &Out) {
        let line = match event {
            Event::Started { .. } => return,
            Event::Rebuilding { product } => format!("{product}: brings its state back from its inputs"),
            Event::Again { product, reason } => {
                let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
                troubles.insert(product.clone(), reason.clone());
                format!("{product}: starts again from what is committed: {reason}")
            }
            Event::Note { product, text } => format!("{product}: {text}"),
        };
        self.bar.suspend(|| out.talk(&line));
    }
}

fn sum(watch: &Watch, count: impl Fn(&Counts) -> u64) -> u64 {
    watch.counts().values().map(count).sum()
}

/// One line of progress.
fn line(watch: &Watch) -> String {
    let read = sum(watch, |counts| counts.records_in.load(Ordering::Relaxed));
    let written = sum(watch, |counts| counts.records_out.load(Ordering::Relaxed));
    let letters = sum(watch, |counts| counts.dead_letters.load(Ordering::Relaxed));
    let aside = if letters > 0 { format!(", {letters} put aside") } else { String::new() };
    format!("{} products: {read} records read, {written} written{aside}", watch.counts().len())
}

/// What each product has done, as a table; with `holdings` also what its topic holds.
pub(super) fn summary(watch: &Watch, holdings: Option<&BTreeMap<String, usize>>) -> String {
    let number = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
    let row = |(product, counts): (&String, &Counts)| {
        let mut row = vec![product.clone(), number(&counts.records_in), number(&counts.records_out)];
        row.extend(holdings.map(|holdings| holdings.get(product).map_or_else(String::new, ToString::to_string)));
        row.extend([&counts.dead_letters, &counts.late, &counts.epochs].map(number));
        row
    };
    let rows: Vec<Vec<String>> = watch.counts().iter().map(row).collect();
    let mut head = vec!["PRODUCT", "READ", "WRITTEN"];
    head.extend(holdings.map(|_| "HOLDS"));
    head.extend(["DEAD LETTERS", "LATE", "EPOCHS"]);
    table(&head, &rows)
}
