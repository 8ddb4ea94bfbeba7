//! Lookup joins against a search through all versions of the table.

use super::*;

/// Results in the order of arrival.
fn slow_lookup(arrivals: &[(Arrival, i64)], kind: JoinKind, residual: bool, as_of: AsOf) -> Vec<Record> {
    let mut out = Vec::new();
    for (i, ((input, s), _)) in arrivals.iter().enumerate() {
        if *input != 0 {
            continue;
        }
        let before = arrivals[..i].iter().map(|(arrival, _)| arrival).filter(|(input, t)| *input == 1 && t.row[0] == s.row[0]);
        let mut before = before.map(|(_, t)| t);
        // `max_by_key` gives the last of equal ones.
        let version = match as_of {
            AsOf::EventTime => before.filter(|t| t.time <= s.time).max_by_key(|t| t.time),
            AsOf::Arrival => before.next_back(),
        };
        let found = version.filter(|t| !t.delete && s.row[0] != Value::Null && (!residual || at_most(&s.row[1], &t.row[1])));
        let row = match found {
            Some(t) => vec![s.row[0].clone(), s.row[1].clone(), t.row[1].clone(), t.row[2].clone()],
            None if kind == JoinKind::Left => vec![s.row[0].clone(), s.row[1].clone(), null(), null()],
            None => continue,
        };
        out.push(Record { time: s.time, row, delete: false });
    }
    out
}

fn kind(left: bool) -> JoinKind {
    if left { JoinKind::Left } else { JoinKind::Inner }
}

fn as_of(arrival: bool) -> AsOf {
    if arrival { AsOf::Arrival } else { AsOf::EventTime }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn lookup_join_is_its_twin(histories in histories(2, 40), cuts in cuts(), left: bool, residual: bool, arrival: bool) {
        let (kind, as_of) = (kind(left), as_of(arrival));
        let query = lookup_query(kind, residual, as_of);
        let arrivals = merged(&query, &histories);
        prop_assert_eq!(run(&query, &cut(&arrivals, &cuts)).concat(), slow_lookup(&arrivals, kind, residual, as_of));
    }

    #[test]
    fn a_restart_changes_nothing(
        histories in histories(2, 40), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, left: bool, arrival: bool,
    ) {
        let query = lookup_query(kind(left), true, as_of(arrival));
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}
