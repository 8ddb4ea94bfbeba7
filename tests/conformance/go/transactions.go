package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func state(id string) string {
	all, err := adm.DescribeTransactions(ctx, id)
	if err != nil {
		return problem(err)
	}
	t := all[id]
	if t.Err != nil {
		return problem(t.Err)
	}
	return fmt.Sprintf("%s epoch %d timeout %d", t.State, t.ProducerEpoch, t.TimeoutMillis)
}

func ended(id string) {
	until("ended", func() bool { s := state(id); return s[:3] != "Ong" && s[:3] != "Pre" })
}

// transactions: by hand, in sessions of groups, fenced, timed out.
func transactions() {
	part("commit and abort")
	name, id := topic("go-txn", 2), named("go-txn")
	cl := client(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		must(0, cl.BeginTransaction())
		told("sent", len(placed(cl.ProduceSync(ctx, records(name, 4, fmt.Sprint(i))...))), nil)
		told("open", state(id), nil)
		told("committed", read(name, kgo.ReadCommitted()), nil)
		told("end", nil, cl.EndTransaction(ctx, commit))
		ended(id)
		told("state", state(id), nil)
	}
	told("committed", read(name, kgo.ReadCommitted()), nil)
	told("all", len(read(name, kgo.ReadUncommitted())), nil)

	part("fencing")
	must(0, cl.BeginTransaction())
	must(0, cl.ProduceSync(ctx, records(name, 2, "old")...).FirstErr())
	heir := client(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(0, heir.BeginTransaction())
	must(0, heir.ProduceSync(ctx, records(name, 2, "new")...).FirstErr())
	told("the first fails", cl.ProduceSync(ctx, records(name, 2, "zombie")...).FirstErr() != nil || cl.EndTransaction(ctx, kgo.TryCommit) != nil, nil)
	told("the second", nil, heir.EndTransaction(ctx, kgo.TryCommit))
	told("committed", read(name, kgo.ReadCommitted()), nil)
	cl.Close()
	heir.Close()

	part("a session")
	in, out, group := topic("go-in", 2), topic("go-out", 2), named("go-session")
	writer := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(0, writer.ProduceSync(ctx, records(in, 30, "r")...).FirstErr())
	session := must(kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(named("go-session")), kgo.ConsumerGroup(group), kgo.ConsumeTopics(in), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DefaultProduceTopic(out)))
	copied, turn := 0, 0
	for copied < 30 {
		fetches := session.PollRecords(ctx, 10)
		must(0, session.Begin())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Key: r.Key, Value: append([]byte("copy of "), r.Value...)}, nil)
		})
		turn++
		committed, err := session.End(ctx, kgo.TransactionEndTry(turn != 2))
		must(0, err)
		if committed {
			copied += fetches.NumRecords()
		}
	}
	session.Close()
	told("copied", copied, nil)
	told("committed", len(read(out, kgo.ReadCommitted())), nil)
	told("offsets", offsets(group), nil)

	part("time-out")
	slow := named("go-slow")
	cl = client(kgo.TransactionalID(slow), kgo.TransactionTimeout(time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(0, cl.BeginTransaction())
	must(0, cl.ProduceSync(ctx, records(out, 2, "late")...).FirstErr())
	producers := must(adm.DescribeProducers(ctx, kadm.TopicsSet{out: {0: {}}}))
	open := 0
	for _, p := range producers.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			open++
		}
	}
	told("open", open, nil)
	until("aborted", func() bool { return state(slow)[:4] == "Comp" })
	told("state", state(slow), nil)
	told("its commit fails", cl.EndTransaction(ctx, kgo.TryCommit) != nil, nil)
	told("committed", len(read(out, kgo.ReadCommitted())), nil)
	told("listed", must(adm.ListTransactions(ctx, nil, []string{"CompleteAbort"}))[slow].State, nil)
	told("unknown", state(named("go-nobody")), nil)
	cl.Close()
}
