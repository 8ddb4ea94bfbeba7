//! Table joins against all pairs of the rows that the tables have.

use datafusion_expr::when;

use super::interval_join::kinds;
use super::*;

/// What a left row points to: a key of the other table, or nothing.
fn foreign_key(n: &Value) -> Option<&'static str> {
    ["k0", "k1", "k2", "k3", "k0"].get(usize::try_from(n.integer()?).ok()?).copied()
}

fn foreign_key_of(column: &str) -> Expr {
    let mut cases = when(col(column).eq(lit(0i64)), lit("k0"));
    for (n, key) in [(1i64, "k1"), (2, "k2"), (3, "k3"), (4, "k0")] {
        cases = cases.when(col(column).eq(lit(n)), lit(key));
    }
    cases.end().unwrap()
}

/// How the tables of a test are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Both on their whole keys.
    Keys,
    /// The left on what it points to.
    ForeignKey,
    /// On a column that is no key.
    Column,
}

fn hows() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Keys), Just(How::ForeignKey), Just(How::Column)]
}

fn meets(how: How, a: &Row, b: &Row) -> bool {
    match how {
        How::Keys => a[0] != null() && a[0] == b[0],
        How::ForeignKey => foreign_key(&a[1]).is_some_and(|key| b[0] == Value::Text(key.into())),
        How::Column => a[1] != null() && a[1] == b[1],
    }
}

fn node(left: Node, right: Node, (a, b): (&str, &str), kind: JoinKind, how: How, residual: bool, changes: Changes) -> Node {
    let (k, n) = (|alias: &str| col(format!("{alias}.k")), |alias: &str| col(format!("{alias}.n")));
    let on = match how {
        How::Keys => On { left: k(a), right: k(b) },
        How::ForeignKey => On { left: foreign_key_of(&format!("{a}.n")), right: k(b) },
        How::Column => On { left: n(a), right: n(b) },
    };
    let residual = residual.then(|| col(format!("{a}.t")).not_eq(lit("0.1")).and(n(b).gt_eq(lit(1i64))));
    let schema = joined(&left, &right);
    Node::TableJoin { left: Box::new(left), right: Box::new(right), on: vec![on], residual, kind, schema, changes }
}

fn holds(residual: bool, a: &Row, b: &Row) -> bool {
    let fits = a[2] != null() && a[2] != Value::Text("0.1".into()) && b[1].integer().is_some_and(|n| n >= 1);
    !residual || fits
}

fn columns(aliases: &[&str]) -> Vec<(String, Expr, DataType)> {
    let all = aliases.iter().flat_map(|alias| COLUMNS.iter().map(move |(name, t)| (format!("{alias}.{name}"), t.clone())));
    all.map(|(name, t)| (name.replace('.', "_"), col(&name), t)).collect()
}

fn all_columns(node: Node, aliases: &[&str]) -> Node {
    let changes = node.changes();
    let columns = columns(aliases);
    let columns: Vec<(&str, Expr, DataType)> = columns.iter().map(|(n, e, t)| (n.as_str(), e.clone(), t.clone())).collect();
    project(node, &columns, changes)
}

/// Rows that are taken back can't leave a dataflow. All rows of these joins are different, so that DISTINCT changes none.
fn each_row(node: Node) -> Node {
    match node.changes() {
        Changes::Retract => {
            let changes = Changes::Upsert((0..node.schema().fields().len()).collect());
            Node::Distinct { input: Box::new(node), changes }
        }
        _ => node,
    }
}

/// Two tables: a table by the left's key, if `by_key`, else rows that are taken back whole.
fn two(kind: JoinKind, how: How, residual: bool, by_key: bool) -> Query {
    let inputs = vec![input("a", Shape::Table), input("b", Shape::Table)];
    let changes = if by_key { Changes::Upsert(vec![0]) } else { Changes::Retract };
    let join = node(scan(0, &inputs[0]), scan(1, &inputs[1]), ("a", "b"), kind, how, residual, changes);
    query(inputs, each_row(all_columns(join, &["a", "b"])))
}

/// Three tables: the first join takes whole rows back, and stands at the left or at the right of the second.
fn three(kinds: (JoinKind, JoinKind), hows: (How, How), first_left: bool) -> Query {
    let inputs = vec![input("a", Shape::Table), input("b", Shape::Table), input("c", Shape::Table)];
    let first = node(scan(0, &inputs[0]), scan(1, &inputs[1]), ("a", "b"), kinds.0, hows.0, false, Changes::Retract);
    let third = scan(2, &inputs[2]);
    let join = match first_left {
        true => node(first, third, ("b", "c"), kinds.1, hows.1, false, Changes::Retract),
        false => node(third, first, ("c", "b"), kinds.1, hows.1, false, Changes::Retract),
    };
    query(inputs, each_row(all_columns(join, &["a", "b", "c"])))
}

fn slow_join(left: &[Row], right: &[Row], widths: (usize, usize), kind: JoinKind, fits: impl Fn(&Row, &Row) -> bool) -> Vec<Row> {
    let mut out = Vec::new();
    for a in left {
        out.extend(right.iter().filter(|b| fits(a, b)).map(|b| [a.clone(), b.clone()].concat()));
        if matches!(kind, JoinKind::Left | JoinKind::Full) && !right.iter().any(|b| fits(a, b)) {
            out.push([a.clone(), vec![null(); widths.1]].concat());
        }
    }
    for b in right.iter().filter(|b| !left.iter().any(|a| fits(a, b))) {
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            out.push([vec![null(); widths.0], b.clone()].concat());
        }
    }
    out
}

/// The rows of an input after some arrivals.
fn rows(arrivals: &[(Arrival, i64)], input: usize) -> Vec<Row> {
    table(arrivals.iter().filter(|((at, _), _)| *at == input).map(|((_, r), _)| r), &[0]).into_values().collect()
}

fn slow_three(arrivals: &[(Arrival, i64)], kinds: (JoinKind, JoinKind), hows: (How, How), first_left: bool) -> Vec<Row> {
    let (a, b, c) = (rows(arrivals, 0), rows(arrivals, 1), rows(arrivals, 2));
    let first = slow_join(&a, &b, (3, 3), kinds.0, |a, b| meets(hows.0, a, b));
    let b_of = |row: &Row| row[3..6].to_vec();
    match first_left {
        true => slow_join(&first, &c, (6, 3), kinds.1, |first, c| meets(hows.1, &b_of(first), c)),
        // The join has c's columns first, the result has them last.
        false => {
            let all = slow_join(&c, &first, (3, 6), kinds.1, |c, first| meets(hows.1, c, &b_of(first)));
            all.into_iter().map(|row| [&row[3..], &row[..3]].concat()).collect()
        }
    }
}

/// Runs the steps, and compares with the twin after each. What is taken back must be there.
fn follow(
    query: &Query,
    arrivals: &[(Arrival, i64)],
    cuts: &Cuts,
    wanted: impl Fn(&[(Arrival, i64)]) -> Vec<Row>,
) -> Result<(), TestCaseError> {
    let mut dataflow = Dataflow::compile(query).unwrap();
    let (mut seen, mut known) = (0, BTreeSet::new());
    for step in cut(arrivals, cuts) {
        seen += step.0.iter().map(|(_, batch)| batch.len()).sum::<usize>();
        for record in step_once(&mut dataflow, &step) {
            let known = if record.delete { known.remove(&record.row) } else { known.insert(record.row) };
            prop_assert!(known, "taken back but not there, or there already");
        }
        let rows: Vec<Row> = known.iter().cloned().collect();
        prop_assert_eq!(rows, sorted(wanted(&arrivals[..seen])));
    }
    Ok(())
}

fn left_or_inner(left: bool) -> JoinKind {
    if left { JoinKind::Left } else { JoinKind::Inner }
}

proptest! {
    #![proptest_config(config())]

    /// After every step, and no record says what was known already.
    #[test]
    fn a_join_by_key_is_its_twin(histories in histories(2, 40), cuts in cuts(), left: bool, residual: bool, foreign: bool) {
        let (kind, how) = (left_or_inner(left), if foreign { How::ForeignKey } else { How::Keys });
        let query = two(kind, how, residual, true);
        let arrivals = merged(&query, &histories);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut seen, mut known) = (0, BTreeMap::new());
        for step in cut(&arrivals, &cuts) {
            seen += step.0.iter().map(|(_, batch)| batch.len()).sum::<usize>();
            for record in step_once(&mut dataflow, &step) {
                carry_out(&mut known, record)?;
            }
            let (a, b) = (rows(&arrivals[..seen], 0), rows(&arrivals[..seen], 1));
            let wanted = slow_join(&a, &b, (3, 3), kind, |a, b| meets(how, a, b) && holds(residual, a, b));
            let wanted: BTreeMap<Row, Row> = wanted.into_iter().map(|row| (vec![row[0].clone()], row)).collect();
            prop_assert_eq!(&known, &wanted);
        }
    }

    #[test]
    fn a_join_that_takes_rows_back_is_its_twin(
        histories in histories(2, 40), cuts in cuts(), kind in kinds(), how in hows(), residual: bool,
    ) {
        let query = two(kind, how, residual, false);
        let fits = |a: &Row, b: &Row| meets(how, a, b) && holds(residual, a, b);
        let wanted = |seen: &[(Arrival, i64)]| slow_join(&rows(seen, 0), &rows(seen, 1), (3, 3), kind, fits);
        follow(&query, &merged(&query, &histories), &cuts, wanted)?;
    }

    #[test]
    fn a_join_of_rows_that_are_taken_back_is_its_twin(
        histories in histories(3, 20), cuts in cuts(), kinds in (kinds(), kinds()), hows in (hows(), hows()), first_left: bool,
    ) {
        let query = three(kinds, hows, first_left);
        follow(&query, &merged(&query, &histories), &cuts, |seen| slow_three(seen, kinds, hows, first_left))?;
    }

    #[test]
    fn three_tables_are_joined_by_their_keys(histories in histories(3, 25), cuts in cuts()) {
        let query = three_tables_query();
        let arrivals = merged(&query, &histories);
        let side = |input: usize| table(arrivals.iter().filter(|((at, _), _)| *at == input).map(|((_, r), _)| r), &[0]);
        let (a, b, c) = (side(0), side(1), side(2));
        let mut wanted = BTreeMap::new();
        for (key, a) in a.iter().filter(|(key, _)| key[0] != Value::Null) {
            if let Some(c) = c.get(key) {
                let bn = b.get(key).map_or(Value::Null, |b| b[1].clone());
                wanted.insert(key.clone(), vec![a[0].clone(), a[1].clone(), bn, c[1].clone()]);
            }
        }
        let out = run(&query, &cut(&arrivals, &cuts)).concat();
        prop_assert_eq!(table(out.iter(), &[0]), wanted);
    }

    #[test]
    fn a_restart_changes_nothing(
        histories in histories(3, 25), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, which in 0usize..3,
        kinds in (kinds(), kinds()), hows in (hows(), hows()), first: bool,
    ) {
        let query = match which {
            0 => two(left_or_inner(first), How::ForeignKey, true, true),
            1 => two(kinds.0, hows.0, first, false),
            _ => three(kinds, hows, first),
        };
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}

// ------------------------------------------------------------------------------------------------------------ examples

/// A line for each step: what comes in, and what goes out.
fn told(query: &Query, steps: &str) -> String {
    let mut dataflow = Dataflow::compile(query).unwrap();
    let value = |value: &Value| match value {
        Value::Null => "-".to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Text(text) => text.clone(),
    };
    let mut out = String::new();
    for (time, line) in (1..).zip(steps.lines().map(str::trim)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let input = usize::from(words[0] == "b");
        let (delete, key) = words[1].strip_prefix('-').map_or((false, words[1]), |key| (true, key));
        let n = words.get(2).map_or(Value::Null, |n| n.parse().map_or(Value::Null, Value::Integer));
        let record = Record { time, row: vec![Value::Text(key.into()), n, Value::Null], delete };
        let records = step_once(&mut dataflow, &(vec![(input, batch_of(&[record]))], time));
        let shown = records.iter().map(|r| {
            let values: Vec<String> = [0, 1, 3, 4].iter().map(|at| value(&r.row[*at])).collect();
            format!("{}{}@{}", if r.delete { '-' } else { '+' }, values.join(" "), r.time)
        });
        out += format!("{line:8} => {}", shown.collect::<Vec<_>>().join(", ")).trim_end();
        out.push('\n');
    }
    out
}

/// `n` says what a left row points to.
#[test]
fn a_change_of_a_row_reaches_all_that_point_to_it() {
    let steps = "a x 1
        a y 1
        b k1 5
        b k1 6
        a z 2
        a x 2
        b k2 7
        a x 5
        b -k1
        a -y
        a -y
        a -z
        b -k2";
    insta::assert_snapshot!(told(&two(JoinKind::Inner, How::ForeignKey, false, true), steps), @"
    a x 1    =>
    a y 1    =>
    b k1 5   => +x 1 k1 5@3, +y 1 k1 5@3
    b k1 6   => +x 1 k1 6@4, +y 1 k1 6@4
    a z 2    =>
    a x 2    => -x - - -@6
    b k2 7   => +z 2 k2 7@7, +x 2 k2 7@7
    a x 5    => -x - - -@8
    b -k1    => -y - - -@9
    a -y     =>
    a -y     =>
    a -z     => -z - - -@12
    b -k2    =>
    ");
    insta::assert_snapshot!(told(&two(JoinKind::Left, How::ForeignKey, false, true), steps), @"
    a x 1    => +x 1 - -@1
    a y 1    => +y 1 - -@2
    b k1 5   => +x 1 k1 5@3, +y 1 k1 5@3
    b k1 6   => +x 1 k1 6@4, +y 1 k1 6@4
    a z 2    => +z 2 - -@5
    a x 2    => +x 2 - -@6
    b k2 7   => +z 2 k2 7@7, +x 2 k2 7@7
    a x 5    => +x 5 - -@8
    b -k1    => +y 1 - -@9
    a -y     => -y - - -@10
    a -y     =>
    a -z     => -z - - -@12
    b -k2    =>
    ");
    insta::assert_snapshot!(told(&two(JoinKind::Full, How::ForeignKey, false, false), steps), @"
    a x 1    => +x 1 - -@1
    a y 1    => +y 1 - -@2
    b k1 5   => -x 1 - -@3, -y 1 - -@3, +x 1 k1 5@3, +y 1 k1 5@3
    b k1 6   => -x 1 k1 5@4, -y 1 k1 5@4, +x 1 k1 6@4, +y 1 k1 6@4
    a z 2    => +z 2 - -@5
    a x 2    => -x 1 k1 6@6, +x 2 - -@6
    b k2 7   => -z 2 - -@7, -x 2 - -@7, +z 2 k2 7@7, +x 2 k2 7@7
    a x 5    => -x 2 k2 7@8, +x 5 - -@8
    b -k1    => -y 1 k1 6@9, +y 1 - -@9
    a -y     => -y 1 - -@10
    a -y     =>
    a -z     => -z 2 k2 7@12, +- - k2 7@12
    b -k2    => -- - k2 7@13
    ");
}

/// Rows that nobody wants any more are given up, and those that are wanted are found afterwards.
#[test]
fn replaced_rows_are_forgotten() {
    for (by_key, how) in [(true, How::Keys), (true, How::ForeignKey), (false, How::Column), (false, How::ForeignKey)] {
        let mut dataflow = Dataflow::compile(&two(JoinKind::Left, how, false, by_key)).unwrap();
        let batch = |time: i64| {
            let records = (0..1000).map(|i| record(time, &format!("k{}", i % 100), Some((i + time) % 5)));
            batch_of(&records.collect::<Vec<_>>())
        };
        for time in 0..60 {
            dataflow.step(vec![(0, batch(time)), (1, batch(time))], time).unwrap();
            assert!(dataflow.state_bytes() < 3_000_000, "{} bytes at {time}", dataflow.state_bytes());
        }
        // k0 points to k4, and has a 4 itself.
        let out = step_once(&mut dataflow, &(vec![(0, batch_of(&[record(61, "k0", Some(0))]))], 61));
        assert_eq!(out.iter().filter(|r| !r.delete).count(), if how == How::Column { 20 } else { 1 }, "{how:?}");
    }
}

/// Where somebody reads event times, a row that comes again later is news.
#[test]
fn a_row_that_comes_again_is_sent_where_its_time_is_read() {
    for (by_key, read) in [(true, false), (true, true), (false, false), (false, true)] {
        let inputs = vec![input("a", Shape::Table), input("b", Shape::Table)];
        let changes = if by_key { Changes::Upsert(vec![0]) } else { Changes::Retract };
        let join = node(scan(0, &inputs[0]), scan(1, &inputs[1]), ("a", "b"), JoinKind::Inner, How::Keys, false, changes.clone());
        let join = project(join, &[("k", col("a.k"), DataType::Utf8)], changes.clone());
        let qualifier = Some(TableReference::bare("q"));
        let columns = vec![
            (qualifier.clone(), Field::new("k", DataType::Utf8, true)),
            (qualifier, Field::new("rowtime", rowtime_type(), false)),
        ];
        let renamed = Node::Rename { input: Box::new(join), schema: schema(columns) };
        let time = if read { datafusion_expr::cast(col("q.rowtime"), DataType::Int64) } else { lit(0i64) };
        let root = each_row(project(renamed, &[("k", col("q.k"), DataType::Utf8), ("time", time, DataType::Int64)], changes));
        let mut dataflow = Dataflow::compile(&query(inputs, root)).unwrap();
        let mut sent = |input, time| step_once(&mut dataflow, &(vec![(input, batch_of(&[record(time, "x", None)]))], time));
        assert!(sent(0, 1).is_empty());
        let times = |records: Vec<Record>| records.iter().map(|r| (r.delete, r.row[1].integer())).collect::<Vec<_>>();
        assert_eq!(times(sent(1, 2)), vec![(false, Some(if read { 2 } else { 0 }))]);
        let again = match (by_key, read) {
            (_, false) => vec![],
            (true, true) => vec![(false, Some(3))],
            (false, true) => vec![(true, Some(2)), (false, Some(3))],
        };
        assert_eq!(times(sent(0, 3)), again, "{by_key} {read}");
    }
}

#[test]
fn what_may_have_several_results_has_no_key() {
    let refused = |kind, how| Dataflow::compile(&two(kind, how, false, true)).err().map(|error| error.to_string());
    insta::assert_snapshot!(refused(JoinKind::Inner, How::Column).unwrap(), @"a table join whose rows may have several results has no key");
    assert_eq!(refused(JoinKind::Full, How::Keys), refused(JoinKind::Inner, How::Column));
    assert_eq!(refused(JoinKind::Left, How::ForeignKey), None);
}
