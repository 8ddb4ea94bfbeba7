//! Rows per second through the operators, and through a whole mesh of them: `cargo bench --bench engine`.
//!
//! The shapes are those of a bike-share company's derivations over made-up rows: statuses of 500 stations, enriched by two
//! tables, filtered into the full and the empty ones, joined by region within a minute, the newest of each pair kept.
#![allow(clippy::unwrap_used, reason = "a benchmark says so when it fails")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh::engine::{Batch, Dataflow};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::{Query, Relation, Relations, Target, bind};

const STATIONS: usize = 500;
const TICKS: usize = 124;
const MINUTE: i64 = 60_000;
/// Rows per batch, and per step.
const BATCH: usize = 1_024;
const STEP: usize = 8_192;

const ENRICHED: &str =
    "SELECT s.*, i.name, i.capacity, i.lat, i.lon, i.info1, i.info2, i.info3, i.info4, i.info5, i.info6, i.info7,
       i.info8, i.info9, i.info10, i.info11, r.region_id, r.name AS region_name
FROM status s JOIN info i ON i.station_id = s.station_id JOIN regions r ON r.region_id = i.region_id";
const HIGH: &str = "SELECT station_id, name, region_name, lat, lon, bikes - capacity / 2 AS surplus,
       CASE WHEN capacity <> 0 THEN round(CAST(bikes AS DOUBLE) / capacity, 2) END AS percent
FROM enriched WHERE capacity + bikes + docks <> 0 AND bikes >= round(0.75 * capacity)";
const LOW: &str = "SELECT station_id, name, region_name, lat, lon, capacity / 2 - bikes AS shortage
FROM enriched WHERE capacity + bikes + docks <> 0 AND bikes <= round(0.25 * capacity) AND docks >= capacity / 2 - bikes";
const PAIRS: &str = "SELECT high.station_id || '-' || low.station_id AS pair, high.name AS source_name, low.name AS dest_name,
       high.surplus, low.shortage, round(geo_distance(high.lat, high.lon, low.lat, low.lon, 'miles'), 2) AS distance
FROM high JOIN low ON high.region_name = low.region_name
  AND high.rowtime BETWEEN low.rowtime - INTERVAL '1' MINUTE AND low.rowtime + INTERVAL '1' MINUTE
WHERE high.surplus >= low.shortage";
const NEWEST: &str =
    "SELECT pair, latest(source_name) AS source_name, latest(dest_name) AS dest_name, latest(surplus) AS surplus,
       latest(shortage) AS shortage, latest(distance) AS distance FROM pairs GROUP BY pair";
const REDISTRIBUTION: &str = "SELECT high.station_id || '-' || low.station_id AS pair, latest(high.name) AS source_name,
       latest(low.name) AS dest_name, latest(high.surplus) AS surplus, latest(low.shortage) AS shortage,
       latest(round(geo_distance(high.lat, high.lon, low.lat, low.lon, 'miles'), 2)) AS distance
FROM high JOIN low ON high.region_name = low.region_name
  AND high.rowtime BETWEEN low.rowtime - INTERVAL '1' MINUTE AND low.rowtime + INTERVAL '1' MINUTE
WHERE high.surplus >= low.shortage GROUP BY high.station_id || '-' || low.station_id";

#[derive(Default)]
struct Products(BTreeMap<String, Arc<Relation>>);

impl Relations for Products {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl Products {
    fn add(&mut self, name: &str, shape: Shape, key: &str, row_type: Arc<Schema>) {
        let relation = Relation {
            product: name.into(),
            row_type,
            unsupported: Vec::new(),
            shape,
            key: vec![key.into()],
            time_field: "rowtime".into(),
            disorder_ms: 0,
        };
        self.0.insert(name.into(), Arc::new(relation));
    }

    /// Binds a query and makes its result known under a name.
    fn derive(&mut self, name: &str, sql: &str, shape: Shape, key: &str) -> Query {
        let text = SqlText { text: sql.into(), origin: SqlOrigin::Whole { file: name.into() } };
        let (query, diagnostics) = bind(&text, self, &Target { shape, key: &[key.to_string()] });
        let query = query.unwrap_or_else(|| unreachable!("{name}: {diagnostics:?}"));
        self.add(name, shape, key, query.row_type.clone());
        query
    }
}

/// Something like chance, the same in every run.
fn noise(i: usize) -> usize {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 1_000
}

fn texts(rows: usize, make: impl Fn(usize) -> String) -> ArrayRef {
    Arc::new((0..rows).map(|i| Some(make(i))).collect::<StringArray>())
}

fn integers(rows: usize, make: impl Fn(usize) -> usize) -> ArrayRef {
    Arc::new((0..rows).map(|i| make(i) as i64).collect::<Int64Array>())
}

fn floats(rows: usize, make: impl Fn(usize) -> f64) -> ArrayRef {
    Arc::new((0..rows).map(make).map(Some).collect::<Float64Array>())
}

fn station(i: usize) -> String {
    format!("003d58af-e449-4800-aa6d-{:012x}", i % STATIONS)
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

/// 14 columns, as a status has.
fn statuses() -> (RecordBatch, Vec<i64>) {
    let n = STATIONS * TICKS;
    let mut columns = vec![
        ("station_id", texts(n, station)),
        ("bikes", integers(n, |i| noise(i) % 28)),
        ("docks", integers(n, |i| 27 - noise(i) % 28)),
        ("legacy_id", texts(n, |i| format!("{}", i % STATIONS))),
        ("last_reported", integers(n, |i| 1_689_553_767 + i)),
        ("state", texts(n, |_| "active".into())),
    ];
    let more = ["is_installed", "is_renting", "is_returning", "ebikes", "disabled", "scooters", "docks_disabled", "unavailable"];
    columns.extend(more.iter().map(|name| (*name, integers(n, |i| noise(i) % 3))));
    (rows(columns), (0..n).map(|i| (i / STATIONS) as i64 * 11 * MINUTE).collect())
}

/// 17 columns, as a station's information has.
fn infos() -> (RecordBatch, Vec<i64>) {
    let n = STATIONS;
    let mut columns = vec![
        ("station_id", texts(n, station)),
        ("name", texts(n, |i| format!("Street {} at Avenue {}", i % 30, i / 30))),
        ("capacity", integers(n, |i| 15 + i % 13)),
        ("lat", floats(n, |i| 37.5 + i as f64 / 1_000.0)),
        ("lon", floats(n, |i| -122.5 + i as f64 / 2_000.0)),
        ("region_id", texts(n, |i| format!("{}", i % 12))),
    ];
    let names = ["info1", "info2", "info3", "info4", "info5", "info6", "info7", "info8", "info9", "info10", "info11"];
    columns.extend(names.iter().map(|name| (*name, texts(n, |i| format!("{name} of {i}")))));
    (rows(columns), vec![-1; n])
}

fn regions() -> (RecordBatch, Vec<i64>) {
    let columns = vec![("region_id", texts(12, |i| i.to_string())), ("name", texts(12, |i| format!("Region {i}")))];
    (rows(columns), vec![-1; 12])
}

/// The columns that a query reads.
fn read_by(query: &Query, input: usize, rows: &RecordBatch) -> RecordBatch {
    let columns = query.inputs[input].row_type.fields().iter().map(|field| rows.schema().index_of(field.name()).unwrap());
    rows.project(&columns.collect::<Vec<_>>()).unwrap()
}

fn cut(rows: &RecordBatch, times: &[i64]) -> Vec<Batch> {
    let starts = (0..rows.num_rows()).step_by(BATCH);
    let batch = |start: usize| {
        let length = BATCH.min(rows.num_rows() - start);
        Batch::inserts(rows.slice(start, length), times[start..start + length].to_vec().into())
    };
    starts.map(batch).collect()
}

type Steps = Vec<(Vec<(usize, Batch)>, i64)>;

/// The steps of a query over the products it reads, in the order of time; of equal times the later inputs, which are
/// tables or the smaller stream, first.
fn steps(query: &Query, products: &BTreeMap<String, (RecordBatch, Vec<i64>)>) -> Steps {
    let mut arrivals: Vec<(i64, usize, Batch)> = Vec::new();
    for (at, input) in query.inputs.iter().enumerate() {
        let (rows, times) = &products[&input.product];
        for run in times.chunk_by(|a, b| a == b).scan(0, |start, run| {
            *start += run.len();
            Some((*start - run.len(), run))
        }) {
            let rows = read_by(query, at, &rows.slice(run.0, run.1.len()));
            arrivals.extend(cut(&rows, run.1).into_iter().map(|batch| (run.1[0], at, batch)));
        }
    }
    arrivals.sort_by_key(|(time, input, _)| (*time, usize::MAX - input));
    let mut steps: Steps = Vec::new();
    let mut rows = STEP;
    for (time, input, batch) in arrivals {
        if rows >= STEP {
            steps.push((Vec::new(), time));
            rows = 0;
        }
        rows += batch.len();
        let (batches, watermark) = steps.last_mut().unwrap();
        batches.push((input, batch));
        *watermark = time;
    }
    steps
}

/// Runs a query over its inputs; what comes out.
fn run(query: &Query, steps: &Steps) -> Vec<Batch> {
    let mut dataflow = Dataflow::compile(query).unwrap();
    let mut out = Vec::new();
    for (batches, watermark) in steps {
        out.extend(dataflow.step(batches.clone(), *watermark).unwrap());
        dataflow.drain_changelog(&mut |key, value| {
            black_box((key, value));
        });
    }
    out
}

fn whole(batches: &[Batch]) -> (RecordBatch, Vec<i64>) {
    let schema = batches[0].rows.schema();
    let rows = arrow::compute::concat_batches(&schema, batches.iter().map(|batch| &batch.rows)).unwrap();
    (rows, batches.iter().flat_map(|batch| batch.times.to_vec()).collect())
}

fn engine(c: &mut Criterion) {
    let mut known = Products::default();
    let mut data = BTreeMap::new();
    let tables =
        [("status", Shape::Stream, "station_id"), ("info", Shape::Table, "station_id"), ("regions", Shape::Table, "region_id")];
    for ((name, shape, key), made) in tables.into_iter().zip([statuses(), infos(), regions()]) {
        let not_null =
            made.0.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(f.name() != key)).collect::<Vec<_>>();
        known.add(name, shape, key, Arc::new(Schema::new(not_null)));
        data.insert(name.to_string(), made);
    }
    let mut group = c.benchmark_group("engine");
    group.sample_size(10);
    let queries = [
        ("enriched", ENRICHED, Shape::Stream, "station_id", "two lookup joins, 31 columns"),
        ("high", HIGH, Shape::Stream, "station_id", "filter and project"),
        ("low", LOW, Shape::Stream, "station_id", "filter and project, the other end"),
        ("pairs", PAIRS, Shape::Stream, "pair", "interval join"),
        ("newest", NEWEST, Shape::Table, "pair", "latest by key"),
        ("redistribution", REDISTRIBUTION, Shape::Table, "pair", "interval join and latest by key"),
    ];
    for (name, sql, shape, key, what) in queries {
        let query = known.derive(name, sql, shape, key);
        let steps = steps(&query, &data);
        let rows: usize = steps.iter().flat_map(|(batches, _)| batches).map(|(_, batch)| batch.len()).sum();
        let out = run(&query, &steps);
        let (made, times) = whole(&out);
        // A join makes more rows than it reads; the larger number is what it works on.
        group.throughput(Throughput::Elements(rows.max(made.num_rows()) as u64));
        group
            .bench_function(format!("{what}: {rows} rows to {}", made.num_rows()), |b| b.iter(|| run(black_box(&query), &steps)));
        data.insert(name.to_string(), (made, times));
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
