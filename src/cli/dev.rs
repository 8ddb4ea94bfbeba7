//! `mesh dev`: a broker, a registry, the products applied and running, in this one process.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use super::apply;
use super::exit::{Exit, Failure};
use super::holdings;
use super::load::{self, Loaded, Manifests};
use super::out::Out;
use super::run::{self, Shape, Signals, View};
use super::world::{self, Form};
use crate::dev::broker::faults::Faults;
use crate::dev::{broker, registry};
use crate::model::environment::{Environment, Kafka, Registry};
use crate::run::{Options, Watch};

/// The whole platform on this machine: broker, registry, products applied and running
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// End when all inputs are drained and every derivation has caught up
    #[arg(long)]
    until_idle: bool,

    /// Keep topics and schemas in this folder; without it they go when this ends
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Start only this, or these (broker,registry), and no products
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART", conflicts_with = "until_idle")]
    only: Vec<Part>,

    /// Kafka's port; the next free one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    port: u16,

    /// The registry's port; the next free one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    registry_port: u16,

    /// A broker config by Kafka's name, such as log.retention.ms=60000 (again for more)
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    configs: Vec<(String, String)>,

    /// Enforce ACLs on clients that log in; who does not log in may do everything
    #[arg(long)]
    authorize: bool,

    /// Faults to inject, for tests: a YAML file
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// A part of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Broker,
    Registry,
}

impl Arguments {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} is no NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    // What is wrong with the manifests is said before anything starts.
    let mut loaded = if arguments.only.is_empty() { Some(load::checked(&arguments.manifests, out)?) } else { None };
    let began = Instant::now();
    let runtime = super::runtime()?;
    let mut signals = runtime.block_on(async { Signals::new() });
    let data = Data::open(arguments.data.as_deref())?;
    let mut stack = runtime.block_on(Stack::start(arguments, data.path()))?;
    stack.say(arguments, &data, out);
    let ended = match &mut loaded {
        None => {
            runtime.block_on(signals.next());
            Ok(Exit::Worked)
        }
        Some(loaded) => {
            stack.take_over(&mut loaded.mesh.environment, out);
            products(arguments, loaded, &runtime, &mut signals, out, began)
        }
    };
    runtime.block_on(stack.stop());
    ended
}

/// Applies the products and runs them until they are drained or a signal comes.
fn products(
    arguments: &Arguments,
    loaded: &Loaded,
    runtime: &Runtime,
    signals: &mut Signals,
    out: &Out,
    began: Instant,
) -> Result<Exit, Failure> {
    let applied = runtime.block_on(async {
        tokio::select! {
            applied = applied(loaded, out) => Some(applied),
            () = signals.next() => None,
        }
    });
    match applied.transpose()? {
        None => {
            out.talk("stopped before everything was applied");
            return Ok(Exit::Worked);
        }
        Some(Exit::Worked) => {}
        Some(exit) => return Ok(exit),
    }
    let options = Options { only: Vec::new(), until_idle: arguments.until_idle };
    let watch = Watch::new(&loaded.mesh, &options);
    if watch.counts().is_empty() {
        out.talk("nothing to run: no product has a source or a derivation");
        if !arguments.until_idle {
            // The servers are of use all the same.
            runtime.block_on(signals.next());
        }
        return Ok(Exit::Worked);
    }
    let view = View::new(Shape::Table, out);
    let told_to_stop = run::drive(loaded, options, &watch, &view, (runtime, signals), out)?;
    let holdings = if told_to_stop { None } else { Some(holdings::of(loaded)?) };
    out.data(&run::summary(&watch, holdings.as_ref()))?;
    let ended = if told_to_stop { "stopped, all that was done is committed" } else { "drained" };
    out.talk(&format!("{ended}, {:.1} s after the start", began.elapsed().as_secs_f64()));
    Ok(Exit::Worked)
}

/// Makes the stack what the manifests say.
async fn applied(loaded: &Loaded, out: &Out) -> Result<Exit, Failure> {
    let mut target = world::connect(loaded).await?;
    let plan = world::plan(loaded, &mut target, false).await?.plan;
    if !plan.blocked.is_empty() {
        out.data(&world::render(&plan, Form::Text, &loaded.texts, out))?;
        return Ok(Exit::Forbidden);
    }
    let outcome = apply::execute(&mut target, &plan, out).await;
    let (done, failed, skipped) = outcome.counts();
    if failed + skipped > 0 {
        apply::tell(&outcome, out)?;
    }
    if let Some(error) = outcome.error {
        return Err(error.into());
    }
    if failed + skipped > 0 {
        return Ok(Exit::Failed);
    }
    out.talk(&format!("applied   {done} {}, {} products", if done == 1 { "step" } else { "steps" }, loaded.mesh.products.len()));
    Ok(Exit::Worked)
}

/// Where the stack keeps what it knows.
enum Data {
    /// Goes when it is dropped.
    Passing(tempfile::TempDir),
    Kept(PathBuf),
}

impl Data {
    fn open(folder: Option<&Path>) -> Result<Data, Failure> {
        let Some(folder) = folder else {
            return Ok(Data::Passing(tempfile::Builder::new().prefix("mesh-dev-").tempdir()?));
        };
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| Failure::new(Exit::Usage, format!("--data {}: {error}", folder.display())))?;
        Ok(Data::Kept(folder.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Data::Passing(folder) => folder.path(),
            Data::Kept(folder) => folder,
        }
    }
}

/// The servers.
struct Stack {
    broker: broker::Running,
    registry: Option<registry::Running>,
}

impl Stack {
    async fn start(arguments: &Arguments, data: &Path) -> Result<Stack, Failure> {
        let mut settings = broker::Settings::new(data.join("broker"));
        // A registry keeps its schemas on a broker, which then is nobody else's business.
        settings.port = if arguments.has(Part::Broker) { free_port(arguments.port, "--port")? } else { 0 };
        settings.authorize = arguments.authorize;
        settings.super_users = vec!["User:ANONYMOUS".to_owned()];
        settings.configs = arguments.configs.iter().cloned().collect();
        if let Some(file) = &arguments.faults {
            let wrong = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {error}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
            settings.faults = Arc::new(Faults::parse(&text).map_err(|error| wrong(&error))?);
        }
        let broker = broker::Running::start(settings).await?;
        let registry = match arguments.has(Part::Registry) {
            true => Some(start_registry(arguments, &broker).await?),
            false => None,
        };
        Ok(Stack { broker, registry })
    }

    /// Says what runs where.
    fn say(&self, arguments: &Arguments, data: &Data, out: &Out) {
        out.talk("mesh dev: for laptops, demos and tests; it listens on this machine's loopback only");
        if arguments.has(Part::Broker) {
            let taken = if [0, self.broker.broker.address.port()].contains(&arguments.port) { "" } else { TAKEN };
            out.talk(&format!("broker    {}{taken}", self.broker.bootstrap()));
        }
        if let Some(registry) = &self.registry {
            let as_asked = arguments.registry_port == 0 || registry.url().ends_with(&format!(":{}", arguments.registry_port));
            let taken = if as_asked { "" } else { TAKEN };
            out.talk(&format!("registry  {}{taken}", registry.url()));
        }
        out.talk(&match data {
            Data::Passing(folder) => format!("data      {} (goes when this ends; --data DIR keeps it)", folder.path().display()),
            Data::Kept(folder) => format!("data      {}", folder.display()),
        });
    }

    /// Makes an environment this stack's, whatever servers it names.
    fn take_over(&self, environment: &mut Environment, out: &Out) {
        if environment.name != "local" {
            let elsewhere = &environment.kafka.bootstrap;
            out.talk(&format!(
                "warning: environment {} is not local: its Kafka {elsewhere} and its registry stay untouched",
                environment.name
            ));
        }
        environment.kafka = Kafka { bootstrap: self.broker.bootstrap(), security: None };
        if let Some(registry) = &self.registry {
            environment.registry = Registry { url: registry.url(), basic: None };
        }
    }

    async fn stop(&mut self) {
        if let Some(registry) = &mut self.registry {
            registry.stop().await;
        }
        self.broker.stop().await;
    }
}

async fn start_registry(arguments: &Arguments, broker: &broker::Running) -> Result<registry::Running, Failure> {
    let settings = registry::Settings {
        port: free_port(arguments.registry_port, "--registry-port")?,
        cluster_id: broker.broker.cluster_id.clone(),
    };
    let journal = registry::OnTopic::open(broker.broker.clone())?;
    Ok(registry::Running::start(settings, journal).await?)
}

const TAKEN: &str = " (the port asked for is taken)";

/// The port asked for, or the next one that is free.
fn free_port(wanted: u16, flag: &str) -> Result<u16, Failure> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let last = wanted.saturating_add(100);
    let none =
        || Failure::new(Exit::Failed, format!("no port from {wanted} to {last} is free")).hint(format!("say {flag} 0 for any"));
    (wanted..=last).find(free).ok_or_else(none)
}
