//! `mesh doctor`: can I reach what I need, and am I allowed to use it?

use std::time::{Duration, Instant};

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests};
use super::out::{Out, table};
use crate::kafka::Admin;
use crate::plan::OwnTopics;
use crate::registry::Registry;

/// Check what mesh needs: Kafka, the registry, and what it may do there
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

/// One thing that was looked at.
struct Check {
    what: String,
    /// `Err`: what is wrong, and how mesh ends because of it.
    found: Result<String, (String, Exit)>,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::environment(&arguments.manifests, out)?;
    let checks = super::runtime()?.block_on(async {
        let mut checks = kafka(&loaded).await;
        checks.push(registry(&loaded).await);
        checks
    });
    let row = |check: &Check| match &check.found {
        Ok(found) => vec!["ok".into(), check.what.clone(), found.clone()],
        Err((wrong, _)) => vec!["FAILED".into(), check.what.clone(), wrong.clone()],
    };
    out.data(&format!(
        "environment {}\n\n{}",
        loaded.mesh.environment.name,
        table(&["", "CHECK", "FOUND"], &checks.iter().map(row).collect::<Vec<_>>())
    ))?;
    let worst = checks.iter().filter_map(|check| check.found.as_ref().err()).map(|(_, exit)| *exit);
    Ok(worst.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Worked))
}

async fn kafka(loaded: &Loaded) -> Vec<Check> {
    let environment = &loaded.mesh.environment;
    let what = format!("kafka {}", environment.kafka.bootstrap);
    let began = Instant::now();
    let failed = |what: &str, error: crate::kafka::KafkaError| {
        let failure = Failure::from(error);
        Check { what: what.into(), found: Err((failure.message, failure.exit)) }
    };
    let admin = match Admin::connect(&environment.kafka, &loaded.mesh.root, Duration::from_secs(10)).await {
        Ok(admin) => admin,
        Err(error) => return vec![failed(&what, error)],
    };
    let mut checks = Vec::new();
    match admin.cluster().await {
        Ok(cluster) => {
            let brokers = super::validate::counted(cluster.brokers.len(), "broker");
            let id = &cluster.id;
            let found = format!("cluster {id}, {brokers}, {} ms", began.elapsed().as_millis());
            checks.push(Check { what, found: cluster_is_meant(loaded, id).map(|()| found) });
        }
        Err(error) => return vec![failed(&what, error)],
    }
    let own = OwnTopics::default();
    let what = "mesh's own topics".to_owned();
    match admin.describe_topics(&[own.catalog.clone(), own.progress]).await {
        Ok(seen) if seen.contains_key(&own.catalog) => checks.push(Check { what, found: Ok("are there".into()) }),
        Ok(_) => checks.push(Check { what, found: Ok("are not there yet: the first apply makes them".into()) }),
        Err(error) => checks.push(failed(&what, error)),
    }
    checks
}

fn cluster_is_meant(loaded: &Loaded, id: &str) -> Result<(), (String, Exit)> {
    match &loaded.mesh.environment.safety.cluster_id {
        Some(wanted) if wanted != id => Err((format!("is cluster {id}, the environment names {wanted}"), Exit::Forbidden)),
        _ => Ok(()),
    }
}

async fn registry(loaded: &Loaded) -> Check {
    let config = &loaded.mesh.environment.registry;
    let began = Instant::now();
    let asked = match Registry::connect(config, &loaded.mesh.root) {
        Ok(registry) => registry.compatibility(None).await,
        Err(error) => Err(error),
    };
    let found = match asked {
        Ok(level) => {
            let level = level.map_or_else(|| "not told".to_owned(), |level| level.name().to_owned());
            Ok(format!("default compatibility {level}, {} ms", began.elapsed().as_millis()))
        }
        Err(error) => {
            let failure = Failure::from(error);
            Err((failure.message, failure.exit))
        }
    };
    Check { what: format!("registry {}", config.url), found }
}
