//! Windows of event time against their twins: which windows a row belongs to, when a group is closed and sent, which rows
//! are late, and how sessions grow together.

use super::*;
use mesh::engine::LateRow;
use mesh::sql::query::{Emit, WindowGroup, Windows};

/// Histories in which some rows are far behind the others.
fn late_histories(inputs: usize, longest: usize) -> impl Strategy<Value = Vec<Vec<Spec>>> {
    let late = (spec(), prop_oneof![5 => Just(None), 1 => (0i64..40).prop_map(Some)]);
    let late = late.prop_map(|(spec, back)| Spec { back: back.unwrap_or(spec.back), ..spec });
    prop::collection::vec(prop::collection::vec(late, 0..longest), inputs)
}

/// Tumbling, hopping or cumulating windows.
fn windows() -> impl Strategy<Value = Windows> {
    (0usize..3, 1i64..12, 1i64..12, -15i64..15).prop_map(|(kind, size, step, offset_ms)| match kind {
        0 => Windows::Tumble { size_ms: size, offset_ms },
        1 => Windows::Hop { size_ms: size, step_ms: step, offset_ms },
        _ => Windows::Cumulate { size_ms: step * (size % 4 + 1), step_ms: step, offset_ms },
    })
}

fn window_node(input: Node, windows: Windows) -> Node {
    let mut fields: Vec<(Option<TableReference>, Field)> =
        input.schema().iter().map(|(q, f)| (q.cloned(), f.as_ref().clone())).collect();
    let qualifier = Some(TableReference::bare("s"));
    fields.extend(["window_start", "window_end"].map(|name| (qualifier.clone(), Field::new(name, rowtime_type(), false))));
    Node::Window { input: Box::new(input), windows, schema: schema(fields) }
}

fn stream() -> Vec<Input> {
    vec![input("s", Shape::Stream)]
}

/// k, n, t, window_start, window_end
fn plain_query(windows: Windows) -> Query {
    let inputs = stream();
    let node = window_node(scan(0, &inputs[0]), windows);
    let columns = [
        ("k", col("s.k"), DataType::Utf8),
        ("n", col("s.n"), DataType::Int64),
        ("t", col("s.t"), DataType::Utf8),
        ("window_start", col("s.window_start"), rowtime_type()),
        ("window_end", col("s.window_end"), rowtime_type()),
    ];
    query(inputs, project(node, &columns, Changes::Append))
}

fn emitted(input: Node, emit: Emit, grace_ms: i64) -> Node {
    use AggregateFunction::{Count, Earliest, Latest, Sum};
    let aggregates = vec![
        Aggregate::plain(Count, vec![]),
        Aggregate::plain(Sum, vec![col("s.n")]),
        Aggregate::plain(Latest, vec![col("s.t")]),
        Aggregate::plain(Earliest, vec![col("s.n")]),
    ];
    let types =
        [DataType::Utf8, rowtime_type(), rowtime_type(), DataType::Int64, DataType::Int64, DataType::Utf8, DataType::Int64];
    let names = ["k", "window_start", "window_end", "count", "sum", "latest", "earliest"];
    let qualifier = Some(TableReference::bare("g"));
    let fields = names.into_iter().zip(types).map(|(name, t)| (qualifier.clone(), Field::new(name, t, true)));
    Node::Aggregate {
        input: Box::new(input),
        group: vec![col("s.k"), col("s.window_start"), col("s.window_end")],
        aggregates,
        window: Some(WindowGroup { start: 1, end: 2, grace_ms, emit }),
        schema: schema(fields.collect()),
        changes: if emit == Emit::Final { Changes::Append } else { Changes::Upsert(vec![0, 1, 2]) },
    }
}

fn grouped_query(windows: Windows, emit: Emit, grace_ms: i64) -> Query {
    let inputs = stream();
    let node = emitted(window_node(scan(0, &inputs[0]), windows), emit, grace_ms);
    query(inputs, node)
}

/// Sessions by `k`, grouped: the grace is the sessions' own.
fn session_query(gap_ms: i64, grace_ms: i64) -> Query {
    let inputs = stream();
    let sessions = Windows::Session { gap_ms, grace_ms, partition: vec![col("s.k")] };
    let node = emitted(window_node(scan(0, &inputs[0]), sessions), Emit::Final, 0);
    query(inputs, node)
}

// ---------------------------------------------------------------------------------------------------------------- twins

/// The windows of a time: all that begin near it are tried.
fn slow_windows(windows: &Windows, time: i64) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    for start in time - 100..=time {
        let begins = |every: i64, offset: i64| (start - offset).rem_euclid(every) == 0;
        match *windows {
            Windows::Tumble { size_ms, offset_ms } if begins(size_ms, offset_ms) => found.push((start, start + size_ms)),
            Windows::Hop { size_ms, step_ms, offset_ms } if begins(step_ms, offset_ms) => found.push((start, start + size_ms)),
            Windows::Cumulate { size_ms, step_ms, offset_ms } if begins(size_ms, offset_ms) => {
                found.extend((1..=size_ms).filter(|length| length % step_ms == 0).map(|length| (start, start + length)));
            }
            _ => {}
        }
    }
    found.retain(|(_, end)| time < *end);
    found
}

/// A row in a window.
#[derive(Debug, Clone, PartialEq)]
struct Windowed {
    record: Record,
    start: i64,
    end: i64,
}

/// What went into open windows in each step, and what was late. `grace`: how long after its end a window is open.
fn slow_late(steps: &[(Vec<Record>, i64)], windows: &Windows, grace: i64) -> Vec<(Vec<Windowed>, Vec<Windowed>)> {
    let mut watermark = i64::MIN;
    let mut out = Vec::new();
    for (records, after) in steps {
        let (mut taken, mut late) = (Vec::new(), Vec::new());
        for record in records {
            for (start, end) in slow_windows(windows, record.time) {
                let row = Windowed { record: record.clone(), start, end };
                if end + grace <= watermark { late.push(row) } else { taken.push(row) }
            }
        }
        watermark = watermark.max(*after);
        out.push((taken, late));
    }
    out
}

/// The result rows of windows, by group.
fn slow_windowed_groups<'a>(rows: impl Iterator<Item = &'a Windowed>) -> BTreeMap<Row, Record> {
    let mut groups: BTreeMap<Row, Vec<&Windowed>> = BTreeMap::new();
    for row in rows {
        let key = vec![row.record.row[0].clone(), Value::Integer(row.start), Value::Integer(row.end)];
        groups.entry(key).or_default().push(row);
    }
    let result = |(key, rows): (Row, Vec<&Windowed>)| {
        let numbers: Vec<i64> = rows.iter().filter_map(|r| r.record.row[1].integer()).collect();
        let mut row = key.clone();
        row.push(Value::Integer(rows.len() as i64));
        row.push(if numbers.is_empty() { Value::Null } else { Value::Integer(numbers.iter().sum()) });
        row.push(rows.iter().max_by_key(|r| r.record.time).unwrap().record.row[2].clone());
        row.push(rows.iter().min_by_key(|r| r.record.time).unwrap().record.row[1].clone());
        let time = rows[0].end - 1;
        (key, Record { time, row, delete: false })
    };
    groups.into_iter().map(result).collect()
}

/// Rows that are sent in each step, and rows that are late, of sessions by the first column.
fn slow_sessions(steps: &[(Vec<Record>, i64)], gap: i64, grace: i64) -> Vec<(Vec<Windowed>, Vec<Record>)> {
    let mut waiting: Vec<Record> = Vec::new();
    let mut watermark = i64::MIN;
    let mut out = Vec::new();
    for (records, after) in steps {
        let mut late = Vec::new();
        for record in records {
            let joins = waiting.iter().any(|w| w.row[0] == record.row[0] && (w.time - record.time).abs() < gap);
            if joins || record.time + gap + grace > watermark { waiting.push(record.clone()) } else { late.push(record.clone()) }
        }
        watermark = watermark.max(*after);
        let keys: BTreeSet<Value> = waiting.iter().map(|r| r.row[0].clone()).collect();
        let mut sent = Vec::new();
        for key in keys {
            let mut rows: Vec<Record> = waiting.iter().filter(|r| r.row[0] == key).cloned().collect();
            rows.sort_by_key(|r| r.time);
            let mut session: Vec<Record> = Vec::new();
            for i in 0..rows.len() {
                session.push(rows[i].clone());
                if rows.get(i + 1).is_none_or(|next| next.time - rows[i].time >= gap) {
                    let (start, end) = (session[0].time, rows[i].time + gap);
                    if end + grace <= watermark {
                        sent.extend(session.iter().map(|record| Windowed { record: record.clone(), start, end }));
                        let gone = |r: &Record| r.row[0] == key && (start..end).contains(&r.time);
                        waiting.retain(|r| !gone(r));
                    }
                    session.clear();
                }
            }
        }
        out.push((sent, late));
    }
    out
}

/// The records of each step, the last one with nothing but the end of time.
fn records_of_steps(steps: &[Step]) -> Vec<(Vec<Record>, i64)> {
    let records = |(batches, watermark): &Step| (batches.iter().flat_map(|(_, batch)| records_of(batch)).collect(), *watermark);
    steps.iter().map(records).collect()
}

fn moved(mut arrivals: Vec<(Arrival, i64)>, by: i64) -> Vec<(Arrival, i64)> {
    for ((_, record), watermark) in &mut arrivals {
        record.time += by;
        *watermark += by;
    }
    arrivals
}

fn with_end(mut steps: Vec<Step>) -> Vec<Step> {
    steps.push((Vec::new(), END));
    steps
}

/// A late row as its twin has it: the first three columns, and the bounds of its window.
fn late_of(row: &LateRow) -> Record {
    let batch = Batch::inserts(row.row.clone(), vec![row.time].into());
    records_of(&batch).remove(0)
}

/// Tells that a late row is the one at its place among the step's batches.
fn comes_from(row: &LateRow, step: &Step) -> bool {
    let Some((batch, at)) = row.record else { return false };
    let Some((input, batch)) = step.0.get(batch) else { return false };
    let given = records_of(batch).remove(at);
    row.input == Some(*input) && given.time == row.time && late_of(row).row[..3] == given.row
}

// ---------------------------------------------------------------------------------------------------------------- tests

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rows_come_once_for_each_of_their_windows(
        histories in histories(1, 30), cuts in cuts(), windows in windows(), by in prop_oneof![Just(0i64), -300i64..0],
    ) {
        let query = plain_query(windows.clone());
        let arrivals = moved(merged(&query, &histories), by);
        let mut wanted = Vec::new();
        for record in inserted(&arrivals, 0) {
            for (start, end) in slow_windows(&windows, record.time) {
                let row = [record.row.clone(), vec![Value::Integer(start), Value::Integer(end)]].concat();
                wanted.push(Record { row, ..record.clone() });
            }
        }
        prop_assert_eq!(run(&query, &cut(&arrivals, &cuts)).concat(), wanted);
    }

    #[test]
    fn groups_of_windows_are_sent_once_when_they_close(
        histories in late_histories(1, 40), cuts in cuts(), windows in windows(), grace in 0i64..10,
        by in prop_oneof![Just(0i64), -300i64..0],
    ) {
        let query = grouped_query(windows.clone(), Emit::Final, grace);
        let steps = with_end(cut(&moved(merged(&query, &histories), by), &cuts));
        let twin = slow_late(&records_of_steps(&steps), &windows, grace);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut open, mut late_rows, mut before): (Vec<Windowed>, _, _) = (Vec::new(), 0, i64::MIN);
        for (step, (taken, late)) in steps.iter().zip(twin) {
            let watermark = before.max(step.1);
            open.extend(taken);
            let out = step_once(&mut dataflow, step);
            let closed: Vec<Windowed> = open.iter().filter(|row| row.end + grace <= watermark).cloned().collect();
            open.retain(|row| row.end + grace > watermark);
            prop_assert!(out.is_sorted_by_key(|record| record.time));
            prop_assert_eq!(sorted(out), sorted(slow_windowed_groups(closed.iter()).into_values().collect()));
            let told = dataflow.take_late_rows();
            prop_assert!(told.iter().all(|row| comes_from(row, step)));
            let wanted: Vec<(i64, Value)> = late.iter().map(|row| (row.record.time, Value::Integer(row.end))).collect();
            let ends: Vec<(i64, Value)> = told.iter().map(|row| (row.time, late_of(row).row.last().unwrap().clone())).collect();
            prop_assert_eq!(ends, wanted);
            late_rows += late.len() as u64;
            prop_assert_eq!(dataflow.late_rows(), late_rows);
            before = watermark;
        }
        prop_assert_eq!(dataflow.state_bytes(), 0);
    }

    /// After every step what was sent last of each group is what the group is, and no record says what was known already.
    #[test]
    fn groups_of_windows_are_sent_whenever_they_change(
        histories in late_histories(1, 40), cuts in cuts(), windows in windows(), grace in 0i64..10,
    ) {
        let query = grouped_query(windows.clone(), Emit::Changes, grace);
        let steps = with_end(cut(&merged(&query, &histories), &cuts));
        let twin = slow_late(&records_of_steps(&steps), &windows, grace);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut taken, mut known) = (Vec::new(), BTreeMap::new());
        for (step, (now, late)) in steps.iter().zip(twin) {
            taken.extend(now);
            let out = step_once(&mut dataflow, step);
            prop_assert!(out.is_sorted_by_key(|record| record.time));
            for record in out {
                let before = known.insert(record.row[..3].to_vec(), record.clone());
                prop_assert!(before.is_none_or(|before| before != record), "a record that says nothing new");
            }
            prop_assert_eq!(&known, &slow_windowed_groups(taken.iter()));
            prop_assert_eq!(dataflow.take_late_rows().len(), late.len());
        }
        prop_assert_eq!(dataflow.state_bytes(), 0);
    }

    #[test]
    fn sessions_are_their_twin(histories in late_histories(1, 40), cuts in cuts(), gap in 1i64..12, grace in 0i64..8) {
        let query = plain_query(Windows::Session { gap_ms: gap, grace_ms: grace, partition: vec![col("s.k")] });
        let steps = with_end(cut(&merged(&query, &histories), &cuts));
        let mut dataflow = Dataflow::compile(&query).unwrap();
        for (step, (sent, late)) in steps.iter().zip(slow_sessions(&records_of_steps(&steps), gap, grace)) {
            let out = step_once(&mut dataflow, step);
            let row = |w: &Windowed| [w.record.row.clone(), vec![Value::Integer(w.start), Value::Integer(w.end)]].concat();
            let mut wanted: Vec<Record> = sent.iter().map(|w| Record { row: row(w), ..w.record.clone() }).collect();
            // In the order of their ends; of equal ones, in that of their starts, then of their keys.
            wanted.sort_by_key(|r| (r.row[4].clone(), r.row[3].clone(), r.row[0].clone()));
            prop_assert_eq!(out, wanted);
            let told = dataflow.take_late_rows();
            prop_assert!(told.iter().all(|row| comes_from(row, step)));
            prop_assert_eq!(told.iter().map(|row| row.time).collect::<Vec<_>>(), late.iter().map(|r| r.time).collect::<Vec<_>>());
        }
        prop_assert_eq!(dataflow.state_bytes(), 0);
    }

    #[test]
    fn groups_of_sessions_are_their_twin(histories in late_histories(1, 40), cuts in cuts(), gap in 1i64..12, grace in 0i64..8) {
        let query = session_query(gap, grace);
        let steps = with_end(cut(&merged(&query, &histories), &cuts));
        let mut dataflow = Dataflow::compile(&query).unwrap();
        for (step, (sent, late)) in steps.iter().zip(slow_sessions(&records_of_steps(&steps), gap, grace)) {
            let out = step_once(&mut dataflow, step);
            prop_assert!(out.is_sorted_by_key(|record| record.time));
            prop_assert_eq!(sorted(out), sorted(slow_windowed_groups(sent.iter()).into_values().collect()));
            // Whatever came out of a session is in time for its group.
            prop_assert_eq!(dataflow.take_late_rows().len(), late.len());
        }
    }
}

/// The results of windows, joined in time with a second stream.
fn joined_windows_query(grace: i64) -> Query {
    let inputs = vec![input("s", Shape::Stream), input("b", Shape::Stream)];
    let counted = emitted(window_node(scan(0, &inputs[0]), Windows::Tumble { size_ms: 5, offset_ms: 0 }), Emit::Final, grace);
    let join = interval_node(counted, scan(1, &inputs[1]), (-9, 6), JoinKind::Left, None, ("g.k", "b.k"));
    let columns = [
        ("k", col("g.k"), DataType::Utf8),
        ("window_end", col("g.window_end"), rowtime_type()),
        ("count", col("g.count"), DataType::Int64),
        ("n", col("b.n"), DataType::Int64),
        ("t", col("b.t"), DataType::Utf8),
    ];
    query(inputs, project(join, &columns, Changes::Append))
}

/// Windows over the results of windows.
fn windows_over_windows_query(grace: i64) -> Query {
    let inputs = stream();
    let inner = emitted(window_node(scan(0, &inputs[0]), Windows::Tumble { size_ms: 3, offset_ms: 1 }), Emit::Final, grace);
    let columns =
        [("k", col("g.k"), DataType::Utf8), ("n", col("g.count"), DataType::Int64), ("t", col("g.latest"), DataType::Utf8)];
    let Node::Project { input, columns, changes, .. } = project(inner, &columns, Changes::Append) else { panic!() };
    let fields = COLUMNS.iter().map(|(name, t)| (Some(TableReference::bare("s")), Field::new(*name, t.clone(), true)));
    let inner = Node::Project { input, columns, changes, schema: schema(fields.collect()) };
    let outer = emitted(window_node(inner, Windows::Hop { size_ms: 12, step_ms: 6, offset_ms: 0 }), Emit::Final, 0);
    query(inputs, outer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases * 4, ..config() })]

    /// The outer windows get every row of the inner ones, however late these close.
    #[test]
    fn windows_over_windows_lose_nothing(histories in histories(1, 40), cuts in cuts(), grace in 0i64..10) {
        let query = windows_over_windows_query(grace);
        let arrivals = merged(&query, &histories);
        let tumble = Windows::Tumble { size_ms: 3, offset_ms: 1 };
        let all = [(inserted(&arrivals, 0).cloned().collect::<Vec<_>>(), END)];
        let inner = slow_windowed_groups(slow_late(&all, &tumble, grace).remove(0).0.iter());
        let mut inner: Vec<Record> = inner
            .into_values()
            .map(|r| Record { row: vec![r.row[0].clone(), r.row[3].clone(), r.row[5].clone()], ..r })
            .collect();
        inner.sort_by_key(|r| r.time);
        let hop = Windows::Hop { size_ms: 12, step_ms: 6, offset_ms: 0 };
        let outer = slow_windowed_groups(slow_late(&[(inner, END)], &hop, 0).remove(0).0.iter());
        let out = run(&query, &cut(&arrivals, &cuts)).concat();
        prop_assert_eq!(sorted(out), sorted(outer.into_values().collect()));
    }

    #[test]
    fn results_of_windows_are_joined_in_time(histories in histories(2, 40), cuts in cuts(), grace in 0i64..10) {
        let query = joined_windows_query(grace);
        let arrivals = merged(&query, &histories);
        let tumble = Windows::Tumble { size_ms: 5, offset_ms: 0 };
        let all = [(inserted(&arrivals, 0).cloned().collect::<Vec<_>>(), END)];
        let mut wanted = Vec::new();
        for (key, group) in slow_windowed_groups(slow_late(&all, &tumble, grace).remove(0).0.iter()) {
            let near = |b: &&Record| key[0] != null() && b.row[0] == key[0] && (-9..=6).contains(&(b.time - group.time));
            let partners: Vec<&Record> = inserted(&arrivals, 1).filter(near).collect();
            let left = vec![key[0].clone(), key[2].clone(), group.row[3].clone()];
            if partners.is_empty() {
                wanted.push(Record { row: [left.clone(), vec![null(), null()]].concat(), ..group.clone() });
            }
            wanted.extend(partners.iter().map(|b| Record {
                time: group.time.max(b.time), row: [left.clone(), b.row[1..].to_vec()].concat(), delete: false,
            }));
        }
        prop_assert_eq!(sorted(run(&query, &cut(&arrivals, &cuts)).concat()), sorted(wanted));
    }

    #[test]
    fn a_restart_changes_no_window(
        histories in histories(2, 30), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, which in 0usize..7, windows in windows(),
        grace in 0i64..10,
    ) {
        let query = match which {
            0 => plain_query(windows),
            1 => grouped_query(windows, Emit::Final, grace),
            2 => grouped_query(windows, Emit::Changes, grace),
            3 => session_query(grace + 1, 3),
            4 => joined_windows_query(grace),
            5 => windows_over_windows_query(grace),
            _ => plain_query(Windows::Session { gap_ms: 4, grace_ms: grace, partition: vec![col("s.k"), col("s.n")] }),
        };
        let histories = &histories[..query.inputs.len()];
        restart(&query, &merged(&query, histories), &cuts, &replay, at)?;
    }

    /// Rows that are late for the old dataflow are late for the new one, though it has seen no row and no watermark.
    #[test]
    fn late_is_late_after_a_restart(
        histories in late_histories(1, 30), cuts in cuts(), at in 0.0f64..1.0, which in 0usize..3, windows in windows(), grace in 0i64..5,
    ) {
        let query = match which {
            0 => grouped_query(windows, Emit::Final, grace),
            1 => grouped_query(windows, Emit::Changes, grace),
            _ => session_query(grace + 1, grace),
        };
        let steps = with_end(cut(&merged(&query, &histories), &cuts));
        let (before, after) = steps.split_at((steps.len() as f64 * at) as usize);
        let mut old = Dataflow::compile(&query).unwrap();
        let mut changelog = BTreeMap::new();
        for step in before {
            step_once(&mut old, step);
            old.take_late_rows();
            old.drain_changelog(&mut |key, value| {
                match value {
                    Some(value) => changelog.insert(key.to_vec(), value.to_vec()),
                    None => changelog.remove(key),
                };
            });
        }
        let mut new = Dataflow::compile(&query).unwrap();
        changelog.iter().for_each(|(key, value)| new.restore(key, value).unwrap());
        for step in after {
            prop_assert_eq!(step_once(&mut new, step), step_once(&mut old, step));
            prop_assert_eq!(new.take_late_rows(), old.take_late_rows());
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- examples

fn windows_at(windows: Windows, time: i64) -> Result<Vec<Record>, String> {
    let mut dataflow = Dataflow::compile(&plain_query(windows)).unwrap();
    let out = dataflow.step(vec![(0, batch_of(&[record(time, "x", Some(1))]))], time).map_err(|e| e.to_string())?;
    Ok(out.iter().flat_map(records_of).collect())
}

#[test]
fn the_ends_of_time_have_windows_or_a_reason() {
    let tumble = |size_ms| Windows::Tumble { size_ms, offset_ms: 0 };
    assert_eq!(windows_at(tumble(1), i64::MIN).unwrap().len(), 1);
    assert_eq!(windows_at(tumble(1), i64::MAX - 1).unwrap().len(), 1);
    insta::assert_snapshot!(windows_at(tumble(1), i64::MAX).unwrap_err(), @"window: overflow: the window of the event time 9223372036854775807 ms reaches beyond the range of timestamps");
    insta::assert_snapshot!(windows_at(tumble(10), i64::MIN).unwrap_err(), @"window: overflow: the window of the event time -9223372036854775808 ms reaches beyond the range of timestamps");
    let hop = Windows::Hop { size_ms: i64::MAX, step_ms: i64::MAX, offset_ms: i64::MAX };
    assert_eq!(windows_at(hop, -1).unwrap().len(), 1);
    let session = Windows::Session { gap_ms: 5, grace_ms: i64::MAX, partition: vec![col("s.k")] };
    assert_eq!(windows_at(session.clone(), i64::MIN).unwrap().len(), 0);
    insta::assert_snapshot!(windows_at(session, i64::MAX - 4).unwrap_err(), @"window: overflow: the window of the event time 9223372036854775803 ms reaches beyond the range of timestamps");
}

/// The watermark at the end of time closes what it can, and nothing wraps.
#[test]
fn a_grace_without_end_is_never_over() {
    let query = grouped_query(Windows::Tumble { size_ms: 10, offset_ms: 0 }, Emit::Final, i64::MAX);
    let mut dataflow = Dataflow::compile(&query).unwrap();
    let one = |time| vec![(0, batch_of(&[record(time, "x", Some(1))]))];
    assert_eq!(step_once(&mut dataflow, &(one(3), i64::MAX)).len(), 0);
    assert_eq!(step_once(&mut dataflow, &(one(4), i64::MAX)).len(), 0);
    assert_eq!(dataflow.late_rows(), 0);
    // It ends at 0, and the grace is over at the end of time.
    assert_eq!(step_once(&mut dataflow, &(one(-5), i64::MAX)).len(), 0);
    assert_eq!(dataflow.late_rows(), 1);
}

#[test]
fn a_late_row_names_its_record_through_filters_and_windows() {
    let inputs = stream();
    let filter = Node::Filter { predicate: col("s.n").gt(lit(1i64)), input: Box::new(scan(0, &inputs[0])) };
    let hop = Windows::Hop { size_ms: 10, step_ms: 5, offset_ms: 0 };
    let query = query(stream(), emitted(window_node(filter, hop), Emit::Final, 0));
    let mut dataflow = Dataflow::compile(&query).unwrap();
    step_once(&mut dataflow, &(Vec::new(), 20));
    let first = batch_of(&[record(30, "x", Some(9))]);
    let second = batch_of(&[record(2, "a", Some(0)), record(18, "b", Some(2)), record(7, "c", Some(3))]);
    step_once(&mut dataflow, &(vec![(0, first), (0, second)], 20));
    let told = dataflow.take_late_rows();
    assert!(told.iter().all(|row| row.input == Some(0)));
    let shown: Vec<_> = told.iter().map(|row| (row.record.unwrap(), late_of(row).row)).collect();
    // The row of time 18 is late for the window that ended at 20, and in time for the next.
    // Nobody reads `rowtime`, which stands before the bounds.
    let row = |key: &str, n: i64, start: i64| {
        let number = Value::Integer;
        vec![Value::Text(key.into()), number(n), Value::Text("-".into()), null(), number(start), number(start + 10)]
    };
    assert_eq!(shown, vec![((1, 1), row("b", 2, 10)), ((1, 2), row("c", 3, 0)), ((1, 2), row("c", 3, 5))]);
    assert_eq!(dataflow.late_rows(), 3);
    assert!(dataflow.take_late_rows().is_empty());
}

/// Flink's own example of sessions that grow together: the row in the middle joins two.
#[test]
fn a_row_joins_two_sessions() {
    let mut dataflow = Dataflow::compile(&session_query(10, 5)).unwrap();
    let batch = |times: &[i64]| vec![(0, batch_of(&times.iter().map(|t| record(*t, "x", Some(*t))).collect::<Vec<_>>()))];
    assert_eq!(step_once(&mut dataflow, &(batch(&[100, 118]), 114)).len(), 0);
    // 109 alone would have been closed at 119 + 5, which is not over; it lies within 10 of both.
    assert_eq!(step_once(&mut dataflow, &(batch(&[109]), 130)).len(), 0);
    let out = step_once(&mut dataflow, &(Vec::new(), 133));
    let number = Value::Integer;
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].row[1..5], [number(100), number(128), number(3), number(327)]);
    assert_eq!((out[0].time, dataflow.late_rows()), (127, 0));
}

#[test]
fn closed_groups_leave_the_changelog() {
    for query in [grouped_query(Windows::Tumble { size_ms: 10, offset_ms: 0 }, Emit::Changes, 0), session_query(10, 0)] {
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let mut changelog: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut sizes = Vec::new();
        let keys = |time: i64| batch_of(&(0..20).map(|i| record(time, &format!("k{i}"), Some(1))).collect::<Vec<_>>());
        for time in [3, 5, 7, 30, 31] {
            step_once(&mut dataflow, &(vec![(0, keys(time))], time));
            dataflow.drain_changelog(&mut |key, value| {
                match value {
                    Some(value) => drop(changelog.insert(key.to_vec(), value.to_vec())),
                    None => assert!(changelog.remove(key).is_some(), "a tombstone of what is not there"),
                };
            });
            sizes.push(changelog.len());
        }
        step_once(&mut dataflow, &(Vec::new(), 100));
        dataflow.drain_changelog(&mut |key, value| {
            match value {
                Some(value) => drop(changelog.insert(key.to_vec(), value.to_vec())),
                None => drop(changelog.remove(key)),
            };
        });
        // Only how far each operator has come is left.
        assert!(changelog.len() <= 2 && sizes[2] > 20, "{} {sizes:?}", changelog.len());
        assert_eq!(dataflow.state_bytes(), 0);
    }
}

/// A group that a condition leaves out is not remembered for ever.
#[test]
fn having_over_changing_windows_keeps_nothing() {
    let inputs = stream();
    let node = emitted(window_node(scan(0, &inputs[0]), Windows::Tumble { size_ms: 10, offset_ms: 0 }), Emit::Changes, 0);
    let node = Node::Filter { predicate: col("g.count").gt(lit(1i64)), input: Box::new(node) };
    let mut dataflow = Dataflow::compile(&query(inputs, node)).unwrap();
    let mut out = Vec::new();
    for time in 0..100 {
        out.extend(step_once(&mut dataflow, &(vec![(0, batch_of(&[record(time, "x", Some(1))]))], time)));
    }
    step_once(&mut dataflow, &(Vec::new(), 1000));
    assert_eq!((table(out.iter(), &[0, 1, 2]).len(), dataflow.state_bytes()), (10, 0));
}

#[test]
fn windows_describe_themselves() {
    let mut dataflow = Dataflow::compile(&joined_windows_query(3)).unwrap();
    let batch = batch_of(&[record(1, "x", Some(1)), record(7, "x", Some(1))]);
    step_once(&mut dataflow, &(vec![(0, batch)], 8));
    let text = dataflow.describe().to_string();
    let window = text.lines().skip_while(|line| !line.contains("window aggregate")).take(14).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(window, @"
    window aggregate [append]
        group by: s.k, s.window_start, s.window_end
        aggregates: count(*), sum(s.n), latest(s.t), earliest(s.n)
        window: closes 3 ms after s.window_end
        sends: each group once, when its window closes
        remembers: one entry for each of 1 groups of open windows, and each of the 1 that were closed in the last 9 ms, since their windows may still get rows, and an operator above remembers the results (670 bytes)
        rebuilt from: the changelog
      tumbling windows [append]
          windows: 5 ms each
        scan s [append]
    scan b [append]
    ");
    let sessions = Dataflow::compile(&session_query(10, 5)).unwrap().describe().to_string();
    insta::assert_snapshot!(sessions, @"
    window aggregate [append]
        group by: s.k, s.window_start, s.window_end
        aggregates: count(*), sum(s.n), latest(s.t), earliest(s.n)
        window: closes 0 ms after s.window_end
        sends: each group once, when its window closes
        remembers: one entry for each of 0 groups of open windows, since their windows may still get rows (0 bytes)
        rebuilt from: the changelog
      sessions [append]
          partition by: s.k
          windows: rows less than 10 ms apart, closed 5 ms after their end
          remembers: the 0 rows of 0 open sessions, since a row to come may join two of them (0 bytes)
          rebuilt from: the changelog
        scan s [append]
    ");
}

#[test]
fn rows_of_sessions_are_not_joined_in_time() {
    let inputs = vec![input("s", Shape::Stream), input("b", Shape::Stream)];
    let sessions = Windows::Session { gap_ms: 5, grace_ms: 0, partition: vec![col("s.k")] };
    let node = window_node(scan(0, &inputs[0]), sessions);
    let join = interval_node(node, scan(1, &inputs[1]), (0, 1), JoinKind::Inner, None, ("s.k", "b.k"));
    let refused = Dataflow::compile(&query(inputs, join)).err().unwrap().to_string();
    insta::assert_snapshot!(refused, @"the rows of a session come long after their event times; aggregate them first");
}

// ------------------------------------------------------------------------------------------------------- from the text

#[derive(Debug)]
struct Reports;

impl mesh::sql::Relations for Reports {
    fn find(&self, name: &str) -> Option<Arc<mesh::sql::Relation>> {
        let fields: Vec<Field> = COLUMNS.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
        (name == "reports").then(|| {
            Arc::new(mesh::sql::Relation {
                product: "reports".into(),
                row_type: Arc::new(Schema::new(fields)),
                unsupported: Vec::new(),
                shape: Shape::Stream,
                key: vec!["k".into()],
                time_field: "rowtime".into(),
                disorder_ms: 0,
            })
        })
    }

    fn names(&self) -> Vec<String> {
        vec!["reports".into()]
    }
}

/// The rows that a query gives after all of these, as text.
fn from_sql(sql: &str, target: (Shape, &[&str]), rows: &[(i64, &str, i64)]) -> Vec<String> {
    use mesh::model::product::{SqlOrigin, SqlText};
    let text = SqlText { text: sql.into(), origin: SqlOrigin::Whole { file: "query.sql".into() } };
    let key: Vec<String> = target.1.iter().map(ToString::to_string).collect();
    let (query, diagnostics) = mesh::sql::bind(&text, &Reports, &mesh::sql::Target { shape: target.0, key: &key });
    let query = query.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let mut dataflow = Dataflow::compile(&query).unwrap();
    let read: Vec<usize> = (0..COLUMNS.len()).filter(|at| query.inputs[0].row_type.index_of(COLUMNS[*at].0).is_ok()).collect();
    let mut out = Vec::new();
    for (time, key, n) in rows {
        let batch = batch_of(&[record(*time, key, Some(*n))]);
        let batch = Batch { rows: batch.rows.project(&read).unwrap(), ..batch };
        out.extend(step_once(&mut dataflow, &(vec![(0, batch)], *time)));
    }
    out.extend(step_once(&mut dataflow, &(Vec::new(), END)));
    let shown = |value: &Value| match value {
        Value::Null => "NULL".into(),
        Value::Integer(n) => n.to_string(),
        Value::Text(text) => text.clone(),
    };
    out.iter().map(|r| format!("{}: {}", r.time, r.row.iter().map(shown).collect::<Vec<_>>().join(" "))).collect()
}

#[test]
fn windows_from_their_text() {
    let rows = [(1_000, "a", 1), (2_000, "b", 2), (9_999, "a", 3), (10_000, "a", 4), (8_000, "a", 9), (31_000, "b", 5)];
    let stream = (Shape::Stream, &[] as &[&str]);
    let tumble = "SELECT k, window_start, window_end, count(*) AS c, sum(n) AS s
        FROM TABLE(TUMBLE(TABLE reports, DESCRIPTOR(rowtime), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end";
    // 8,000 came when the watermark had reached the end of its window.
    assert_eq!(
        from_sql(tumble, stream, &rows),
        ["9999: a 0 10000 2 4", "9999: b 0 10000 1 2", "19999: a 10000 20000 1 4", "39999: b 30000 40000 1 5"]
    );
    let grace = "SELECT k, count(*) AS c FROM TABLE(TUMBLE(TABLE reports, DESCRIPTOR(rowtime), INTERVAL '10' SECOND,
        grace => INTERVAL '1' SECOND)) GROUP BY k, window_end HAVING count(*) > 1";
    assert_eq!(from_sql(grace, stream, &rows), ["9999: a 3"]);
    let early =
        "SELECT k, window_start, count(*) AS c FROM TABLE(TUMBLE(TABLE reports, DESCRIPTOR(rowtime), INTERVAL '10' SECOND))
        GROUP BY k, window_start EMIT CHANGES";
    let table = (Shape::Table, &["k", "window_start"] as &[&str]);
    assert_eq!(
        from_sql(early, table, &rows),
        ["9999: a 0 1", "9999: b 0 1", "9999: a 0 2", "19999: a 10000 1", "39999: b 30000 1"]
    );
    let hop = "SELECT window_end, max(n) AS m FROM TABLE(HOP(TABLE reports, DESCRIPTOR(rowtime), INTERVAL '10' SECOND,
        INTERVAL '20' SECOND)) GROUP BY window_end";
    assert_eq!(
        from_sql(hop, stream, &rows),
        ["9999: 10000 3", "19999: 20000 9", "29999: 30000 4", "39999: 40000 5", "49999: 50000 5"]
    );
    let cumulate = "SELECT window_start, window_end, count(*) AS c FROM TABLE(CUMULATE(TABLE reports, DESCRIPTOR(rowtime),
        INTERVAL '10' SECOND, INTERVAL '20' SECOND)) GROUP BY window_start, window_end";
    assert_eq!(from_sql(cumulate, stream, &rows), ["9999: 0 10000 3", "19999: 0 20000 5", "39999: 20000 40000 1"]);
    let session = "SELECT k, window_start, window_end, sum(n) AS s FROM TABLE(SESSION(TABLE reports PARTITION BY k,
        DESCRIPTOR(rowtime), INTERVAL '9' SECOND)) GROUP BY k, window_start, window_end";
    assert_eq!(from_sql(session, stream, &rows), ["10999: b 2000 11000 2", "18999: a 1000 19000 17", "39999: b 31000 40000 5"]);
    let over = "WITH short AS (SELECT k, window_start AS began, count(*) AS c FROM TABLE(TUMBLE(TABLE reports,
        DESCRIPTOR(rowtime), INTERVAL '10' SECOND)) GROUP BY k, window_start)
        SELECT window_start, sum(c) AS c, latest(k) AS k FROM TABLE(TUMBLE(TABLE short, DESCRIPTOR(rowtime), INTERVAL '1' MINUTE))
        GROUP BY window_start";
    assert_eq!(from_sql(over, stream, &rows), ["59999: 0 5 b"]);
}
