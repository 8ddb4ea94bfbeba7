//! `mesh run`: runs sources and derivations until it is told to stop, or all inputs are drained.

use std::sync::atomic::{AtomicBool, Ordering};
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
    let told_to_stop = drive(&loaded, options, &watch, out)?;
    out.data(&summary(&watch))?;
    let ended = if told_to_stop { "stopped, all that was done is committed" } else { "drained" };
    out.talk(&format!("{ended}, after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(Exit::Worked)
}

/// Runs; tells whether it was a signal that ended it.
fn drive(loaded: &Loaded, options: Options, watch: &Watch, out: &Out) -> Result<bool, Failure> {
    let runtime = super::runtime()?;
    let bar = progress_bar(out);
    let events = |event: Event| say(&event, &bar, out);
    let signalled = AtomicBool::new(false);
    let run = runtime.block_on(Run::prepare(&loaded.mesh, &loaded.bound, options, watch, &events))?;
    let done = tokio::sync::Notify::new();
    let ended = std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let ended = run.run();
            done.notify_one();
            ended
        });
        runtime.block_on(watch_over(watch, &bar, &done, &signalled));
        driver.join()
    });
    bar.finish_and_clear();
    match ended {
        Ok(ended) => ended?,
        Err(_) => return Err(Failure::new(Exit::Failed, "a job ended unexpectedly: please report this")),
    }
    Ok(signalled.load(Ordering::Relaxed))
}

/// Shows progress and listens for signals until the run has ended.
async fn watch_over(watch: &Watch, bar: &ProgressBar, done: &tokio::sync::Notify, signalled: &AtomicBool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut signals = Signals::new();
    loop {
        tokio::select! {
            () = done.notified() => return,
            _ = ticks.tick() => bar.set_message(line(watch)),
            () = signals.next() => {
                signalled.store(true, Ordering::Relaxed);
                watch.stop();
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn new() -> Signals {
        Signals {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok(),
        }
    }

    async fn next(&mut self) {
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

fn progress_bar(out: &Out) -> ProgressBar {
    if !out.watched {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
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

fn say(event: &Event, bar: &ProgressBar, out: &Out) {
    let line = match event {
        Event::Started { .. } => return,
        Event::Rebuilding { product } => format!("{product}: brings its state back from its inputs"),
        Event::Again { product, reason } => format!("{product}: starts again from what is committed: {reason}"),
        Event::Note { product, text } => format!("{product}: {text}"),
    };
    bar.suspend(|| out.talk(&line));
}

/// What each product has done, as a table.
fn summary(watch: &Watch) -> String {
    let number = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed).to_string();
    let row = |(product, counts): (&String, &Counts)| {
        let late = number(&counts.late);
        vec![
            product.clone(),
            number(&counts.records_in),
            number(&counts.records_out),
            number(&counts.dead_letters),
            late,
            number(&counts.epochs),
        ]
    };
    let rows: Vec<Vec<String>> = watch.counts().iter().map(row).collect();
    table(&["PRODUCT", "READ", "WRITTEN", "DEAD LETTERS", "LATE", "EPOCHS"], &rows)
}
