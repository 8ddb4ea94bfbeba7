//! Table joins against all pairs of the rows that the tables have.

use super::*;

/// The joined table after some arrivals.
fn slow_tables(arrivals: &[(Arrival, i64)], kind: JoinKind, residual: bool) -> BTreeMap<Row, Row> {
    let side = |input: usize| table(arrivals.iter().filter(|((at, _), _)| *at == input).map(|((_, r), _)| r), &[0]);
    let (left, right) = (side(0), side(1));
    let mut out = BTreeMap::new();
    for (key, a) in &left {
        let partner = right.get(key).filter(|b| key[0] != Value::Null && (!residual || at_most(&a[1], &b[1])));
        match (partner, kind) {
            (Some(b), _) => out.insert(key.clone(), [a.as_slice(), &b[1..]].concat()),
            (None, JoinKind::Inner) => None,
            (None, _) => out.insert(key.clone(), [a.as_slice(), &[null(), null()]].concat()),
        };
    }
    out
}

proptest! {
    #![proptest_config(config())]

    /// After every step, and no record says what was known already.
    #[test]
    fn table_join_is_its_twin(histories in histories(2, 40), cuts in cuts(), left: bool, residual: bool) {
        let kind = if left { JoinKind::Left } else { JoinKind::Inner };
        let query = table_query(kind, residual);
        let arrivals = merged(&query, &histories);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut seen, mut known) = (0, BTreeMap::new());
        for step in cut(&arrivals, &cuts) {
            seen += step.0.iter().map(|(_, batch)| batch.len()).sum::<usize>();
            for record in step_once(&mut dataflow, &step) {
                let key = vec![record.row[0].clone()];
                if record.delete {
                    prop_assert!(record.row[1..].iter().all(|value| *value == Value::Null));
                    prop_assert!(known.remove(&key).is_some(), "a delete of what is not there");
                } else {
                    let before = known.insert(key, record.row.clone());
                    prop_assert_ne!(before, Some(record.row), "a record that says nothing new");
                }
            }
            prop_assert_eq!(&known, &slow_tables(&arrivals[..seen], kind, residual));
        }
    }

    #[test]
    fn three_tables_are_joined(histories in histories(3, 25), cuts in cuts()) {
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
}
