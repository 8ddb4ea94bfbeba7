//! The first row of each partition by event time, against a search through all rows.

use super::*;
use mesh::sql::query::Order;

/// The first row of each k of stream `s`: k, n, t and, if numbered, its number.
fn first_row(inputs: &[Input], numbered: bool) -> Node {
    let input = scan(0, &inputs[0]);
    let number = numbered.then(|| (None, Arc::new(Field::new("row_number", DataType::Int64, false))));
    let fields = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).chain(number);
    let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default()).unwrap());
    let order = vec![Order { expr: col("s.rowtime"), descending: false, nulls_first: false }];
    let partition = vec![col("s.k")];
    Node::TopN { input: Box::new(input), partition, order, limit: 1, numbered, schema, changes: Changes::Append }
}

fn first_row_query(numbered: bool) -> Query {
    let inputs = vec![input("s", Shape::Stream)];
    let number = if numbered { col("row_number") } else { lit(1i64) };
    let columns = [
        ("k", col("s.k"), DataType::Utf8),
        ("n", col("s.n"), DataType::Int64),
        ("t", col("s.t"), DataType::Utf8),
        ("number", number, DataType::Int64),
    ];
    let node = first_row(&inputs, numbered);
    query(inputs, project(node, &columns, Changes::Append))
}

/// First rows joined with a stream: after a restart they must be there again.
fn joined_query(kind: JoinKind) -> Query {
    let inputs = vec![input("s", Shape::Stream), input("b", Shape::Stream)];
    let join = interval_node(first_row(&inputs, false), scan(1, &inputs[1]), (-9, 9), kind, None, ("s.k", "b.k"));
    let columns = [("k", col("s.k"), DataType::Utf8), ("n", col("s.n"), DataType::Int64), ("bn", col("b.n"), DataType::Int64)];
    query(inputs, project(join, &columns, Changes::Append))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases * 4, ..config() })]

    #[test]
    fn first_row_is_its_twin(histories in histories(1, 40), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, numbered: bool) {
        let query = first_row_query(numbered);
        let arrivals = merged(&query, &histories);
        let mut wanted: Vec<Record> = Vec::new();
        for record in inserted(&arrivals, 0) {
            // `min_by_key` gives the first of equal ones.
            let first = inserted(&arrivals, 0).filter(|other| other.row[0] == record.row[0]).min_by_key(|other| other.time);
            if first.is_some_and(|first| std::ptr::eq(first, record)) {
                wanted.push(Record { row: [record.row.clone(), vec![Value::Integer(1)]].concat(), ..record.clone() });
            }
        }
        let out = run(&query, &cut(&arrivals, &cuts)).concat();
        prop_assert!(out.is_sorted_by_key(|record| record.time));
        prop_assert_eq!(sorted(out), sorted(wanted));
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }

    #[test]
    fn first_rows_are_joined_after_a_restart(
        histories in histories(2, 30), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, left: bool,
    ) {
        let query = joined_query(if left { JoinKind::Left } else { JoinKind::Inner });
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}

#[test]
fn a_row_that_comes_too_late_to_be_the_first_is_told() {
    let mut dataflow = Dataflow::compile(&first_row_query(true)).unwrap();
    let mut step = |records: &[Record], watermark| {
        let sent: Vec<i64> =
            step_once(&mut dataflow, &(vec![(0, batch_of(records))], watermark)).iter().map(|r| r.time).collect();
        let late = dataflow.take_late_rows();
        (sent, late.iter().map(|late| (late.record, late.time)).collect::<Vec<_>>(), dataflow.late_rows())
    };
    let row = |time, key| record(time, key, Some(1));
    // Held until the watermark is there.
    assert_eq!(step(&[row(12, "a"), row(10, "a")], 9), (vec![], vec![], 0));
    assert_eq!(step(&[row(30, "a")], 20), (vec![10], vec![], 0));
    // A partition that has sent nothing has lost nothing.
    assert_eq!(step(&[row(11, "a"), row(5, "a"), row(15, "b")], 20), (vec![15], vec![(Some((0, 1)), 5)], 1));
}
