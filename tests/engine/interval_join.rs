//! Interval joins against all pairs of all rows.

use super::*;

pub(crate) fn kinds() -> impl Strategy<Value = JoinKind> {
    prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left), Just(JoinKind::Right), Just(JoinKind::Full)]
}

fn keeps_left(kind: JoinKind) -> bool {
    matches!(kind, JoinKind::Left | JoinKind::Full)
}

fn keeps_right(kind: JoinKind) -> bool {
    matches!(kind, JoinKind::Right | JoinKind::Full)
}

/// All columns of both sides, of those that are `near` and `fit`.
fn slow_pairs(
    (left, right): (&[Record], &[Record]),
    (widths, kind): ((usize, usize), JoinKind),
    near: (i64, i64),
    fits: impl Fn(&Record, &Record) -> bool,
) -> Vec<Record> {
    let partners = |a: &Record, b: &Record| (near.0..=near.1).contains(&(b.time - a.time)) && fits(a, b);
    let mut out = Vec::new();
    for a in left {
        for b in right.iter().filter(|b| partners(a, b)) {
            out.push(Record { time: a.time.max(b.time), row: [a.row.clone(), b.row.clone()].concat(), delete: false });
        }
        if keeps_left(kind) && !right.iter().any(|b| partners(a, b)) {
            out.push(Record { row: [a.row.clone(), vec![null(); widths.1]].concat(), ..a.clone() });
        }
    }
    for b in right.iter().filter(|b| keeps_right(kind) && !left.iter().any(|a| partners(a, b))) {
        out.push(Record { row: [vec![null(); widths.0], b.row.clone()].concat(), ..b.clone() });
    }
    out
}

fn same_key(a: &Record, b: &Record) -> bool {
    a.row[0] != null() && a.row[0] == b.row[0]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn interval_join_is_its_twin(
        histories in histories(2, 40), cuts in cuts(), kind in kinds(), residual: bool, lower in -8i64..8, width in 0i64..12,
    ) {
        let bounds = (lower, lower + width);
        let query = interval_query(bounds, kind, residual);
        let arrivals = merged(&query, &histories);
        let out = run(&query, &cut(&arrivals, &cuts));
        for step in &out {
            prop_assert!(step.is_sorted_by_key(|record| record.time));
        }
        let side = |input: usize| inserted(&arrivals, input).cloned().collect::<Vec<_>>();
        let fits = |a: &Record, b: &Record| same_key(a, b) && (!residual || at_most(&b.row[1], &a.row[1]));
        let all = slow_pairs((&side(0), &side(1)), ((3, 3), kind), bounds, fits);
        let wanted = all.into_iter().map(|r| Record { row: [&r.row[..2], &r.row[3..]].concat(), ..r });
        prop_assert_eq!(sorted(out.concat()), sorted(wanted.collect()));
    }

    #[test]
    fn three_streams_are_joined(histories in histories(3, 20), cuts in cuts(), kind in kinds()) {
        let query = three_streams_query(kind);
        let arrivals = merged(&query, &histories);
        let side = |input: usize| inserted(&arrivals, input).cloned().collect::<Vec<_>>();
        let first = slow_pairs((&side(0), &side(1)), ((3, 3), kind), (-4, 4), same_key);
        let fits = |c: &Record, pair: &Record| same_key(c, pair) && at_most(&pair.row[1], &c.row[1]);
        let all = slow_pairs((&side(2), &first), ((3, 6), kind), (-5, 6), fits);
        let mut wanted: BTreeMap<Row, (i64, Option<i64>)> = BTreeMap::new();
        for record in all {
            let (count, sum) = wanted.entry(vec![record.row[0].clone(), record.row[3].clone()]).or_default();
            *count += i64::from(record.row[6] != null());
            *sum = record.row[1].integer().map(|n| n + sum.unwrap_or(0)).or(*sum);
        }
        let got = table(run(&query, &cut(&arrivals, &cuts)).concat().iter(), &[0, 1]);
        let got: BTreeMap<Row, (i64, Option<i64>)> =
            got.into_iter().map(|(key, row)| (key, (row[5].integer().unwrap(), row[6].integer()))).collect();
        prop_assert_eq!(got, wanted);
    }
}

proptest! {
    // What is compared depends on which rows stand near the cut, so it takes more of them.
    #![proptest_config(ProptestConfig { cases: config().cases * 8, ..config() })]

    #[test]
    fn a_restart_changes_nothing(
        histories in histories(3, 25), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, kind in kinds(), two: bool,
        residual: bool, lower in -8i64..8, width in 0i64..12,
    ) {
        let query = match two {
            true => interval_query((lower, lower + width), kind, residual),
            false => three_streams_query(kind),
        };
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}

#[test]
fn rows_behind_the_watermark_are_counted_and_still_meet_what_is_there() {
    let mut dataflow = Dataflow::compile(&interval_query((-5, 5), JoinKind::Inner, false)).unwrap();
    step_once(&mut dataflow, &(vec![(0, batch_of(&[record(100, "x", Some(1))]))], 104));
    let out = step_once(&mut dataflow, &(vec![(1, batch_of(&[record(99, "x", Some(2)), record(104, "x", Some(3))]))], 104));
    assert_eq!(out.len(), 2);
    assert_eq!(dataflow.late_rows(), 1);
    // The partner is gone: no pair, not one without its values.
    step_once(&mut dataflow, &(Vec::new(), 1000));
    let out = step_once(&mut dataflow, &(vec![(1, batch_of(&[record(101, "x", Some(4))]))], 1000));
    assert_eq!((out, dataflow.late_rows()), (vec![], 2));
}

/// A row that comes when its partners may be gone goes into what is still there, or it is told.
#[test]
fn a_row_that_comes_too_late_and_finds_nobody_is_told() {
    let told = |kind: JoinKind| {
        let mut dataflow = Dataflow::compile(&interval_query((-5, 5), kind, false)).unwrap();
        step_once(&mut dataflow, &(vec![(1, batch_of(&[record(100, "x", Some(1)), record(93, "z", None)]))], 104));
        // At 98 a partner might still come; at 99 and 97 it is too late, but x is still there.
        let late = batch_of(&[record(99, "y", Some(1)), record(98, "y", Some(2)), record(97, "x", Some(3))]);
        let out = step_once(&mut dataflow, &(vec![(0, late)], 104));
        let late = dataflow.take_late_rows().iter().map(|late| (late.time, late.record, late.input)).collect::<Vec<_>>();
        assert!(dataflow.take_late_rows().is_empty());
        (out.len(), late)
    };
    let inner = told(JoinKind::Inner);
    assert_eq!(inner, (1, vec![(98, Some((0, 1)), Some(0))]));
    assert_eq!(told(JoinKind::Right), inner);
    assert_eq!(told(JoinKind::Left), (2, vec![]));
}

/// The last of equally new pairs counts, so the lower join's results must arrive between the other rows, not after them.
#[test]
fn results_of_a_join_below_a_join_arrive_in_their_turn() {
    let query = three_streams_query(JoinKind::Inner);
    let row = |input: usize, time: i64, n: i64, text: &str| {
        let row = vec![Value::Text("x".into()), Value::Integer(n), Value::Text(text.into())];
        ((input, Record { time, row, delete: false }), 0)
    };
    let arrivals = [row(0, 9, 1, "a1"), row(1, 9, 0, "b"), row(2, 9, 6, "c1"), row(0, 10, 5, "a2"), row(2, 10, 3, "c2")];
    for steps in [1, 2, 5] {
        let out = run(&query, &cut(&arrivals, &Cuts { steps: vec![steps], batches: vec![5] })).concat();
        let last = out.last().unwrap();
        assert_eq!((&last.row[2], &last.row[4]), (&Value::Text("a1".into()), &Value::Text("c2".into())), "{steps} rows a step");
    }
}
