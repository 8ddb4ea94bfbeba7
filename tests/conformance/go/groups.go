package main

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// member polls in a goroutine of its own and keeps what it got and what it was assigned.
type member struct {
	cl   *kgo.Client
	lock sync.Mutex
	mine map[int32]bool
	seen []string
	done chan struct{}
	stop context.CancelFunc
}

func join(group, topic string, opts ...kgo.Opt) *member {
	m := &member{mine: map[int32]bool{}, done: make(chan struct{})}
	keep := func(keeps bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, all map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, p := range all[topic] {
				if keeps {
					m.mine[p] = true
				} else {
					delete(m.mine, p)
				}
			}
		}
	}
	m.cl = client(append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(keep(true)), kgo.OnPartitionsRevoked(keep(false)), kgo.OnPartitionsLost(keep(false)), kgo.AutoCommitInterval(100 * time.Millisecond)}, opts...)...)
	var inner context.Context
	inner, m.stop = context.WithCancel(ctx)
	go func() {
		defer close(m.done)
		for inner.Err() == nil {
			m.cl.PollFetches(inner).EachRecord(func(r *kgo.Record) {
				m.lock.Lock()
				m.seen = append(m.seen, string(r.Value))
				m.lock.Unlock()
			})
		}
	}()
	return m
}

func (m *member) size() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.mine) }

func (m *member) leave() {
	m.stop()
	<-m.done
	m.cl.CommitUncommittedOffsets(ctx)
	m.cl.Close()
}

func values(members ...*member) []string {
	var all []string
	for _, m := range members {
		m.lock.Lock()
		all = append(all, m.seen...)
		m.lock.Unlock()
	}
	sort.Strings(all)
	return all
}

func fill(topic string, from, to int) {
	cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for i := from; i < to; i++ {
		must(0, cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(i % 4), Value: fmt.Appendf(nil, "%02d", i)}).FirstErr())
	}
}

func offsets(group string) []string {
	var lines []string
	for _, o := range must(adm.FetchOffsets(ctx, group)).Sorted() {
		lines = append(lines, fmt.Sprintf("%d@%d %v", o.Partition, o.At, o.Err))
	}
	return lines
}

// groups: members that come and go under each balancer, static ones, lag, offsets set and deleted.
func groups() {
	inOrder(map[string][]kgo.Opt{
		"range": {kgo.Balancers(kgo.RangeBalancer())}, "roundrobin": {kgo.Balancers(kgo.RoundRobinBalancer())},
		"cooperative-sticky": {kgo.Balancers(kgo.CooperativeStickyBalancer())}, "consumer": {kgo.ServerSideBalancer()},
	}, balanced)
	part("static")
	name, group := topic("go-static", 4), named("go-static")
	a := join(group, name, kgo.InstanceID("one"), kgo.Balancers(kgo.RangeBalancer()))
	b := join(group, name, kgo.InstanceID("two"), kgo.Balancers(kgo.RangeBalancer()))
	until("shared", func() bool { return a.size() == 2 && b.size() == 2 })
	before := must(adm.DescribeGroups(ctx, group))[group]
	told("instances", len(before.Members), nil)
	b.leave()
	left, err := adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("two", "three").Reason("to see"))
	told("removed", left, err)
	until("all", func() bool { return a.size() == 4 })
	a.leave()

	part("offsets")
	plain := named("go-offsets")
	fill(name, 0, 8)
	var to kadm.Offsets
	to.AddOffset(name, 0, 1, -1)
	to.AddOffset(name, 1, 2, 0)
	set, err := adm.CommitOffsets(ctx, plain, to)
	told("set", set, err)
	told("are", offsets(plain), nil)
	lags, err := adm.Lag(ctx, plain)
	if err == nil {
		for _, l := range lags[plain].Lag.Sorted() {
			fmt.Println("lag", l.Partition, l.Lag, l.Commit.At, l.End.Offset, l.Err)
		}
	}
	deleted, err := adm.DeleteOffsets(ctx, plain, kadm.TopicsSet{name: {0: {}, 3: {}}})
	told("deleted", deleted, err)
	told("are", offsets(plain), nil)
	removed, err := adm.DeleteGroups(ctx, plain, named("go-ghost"))
	told("groups deleted", removed, err)
	many := adm.FetchManyOffsets(ctx, plain, group)
	told("of several", len(many), many.Error())
}

func balanced(title string, opts []kgo.Opt) {
	part(title)
	name, group := topic("go-"+title, 4), named("go-"+title)
	fill(name, 0, 20)
	a := join(group, name, opts...)
	until("one reads all", func() bool { return a.size() == 4 && len(values(a)) == 20 })
	told("once each", slices.Equal(values(a), slices.Compact(values(a))), nil)
	until("committed", func() bool { return len(offsets(group)) == 4 && offsets(group)[0] == "0@5 <nil>" })
	told("offsets", len(offsets(group)), nil)
	b := join(group, name, opts...)
	until("shared", func() bool { return a.size() == 2 && b.size() == 2 })
	fill(name, 20, 40)
	until("two read all", func() bool { return len(values(a, b)) >= 40 })
	told("once each", slices.Equal(values(a, b), slices.Compact(values(a, b))), nil)
	if title == "consumer" {
		for _, g := range must(adm.DescribeConsumerGroups(ctx, group)) {
			told("described", []any{g.State, g.AssignorName, len(g.Members)}, g.Err)
		}
	} else {
		for _, g := range must(adm.DescribeGroups(ctx, group)) {
			told("described", []any{g.State, g.ProtocolType, g.Protocol, len(g.Members)}, g.Err)
		}
	}
	listed := must(adm.ListGroups(ctx))[group]
	told("listed", []any{listed.ProtocolType, listed.State}, nil)
	a.leave()
	until("the other has all", func() bool { return b.size() == 4 })
	b.leave()
	lags := must(adm.Lag(ctx, group))
	told("lag", lags[group].Lag.Total(), lags.Error())
	told("offsets", offsets(group), nil)
	gone, err := adm.DeleteGroup(ctx, group)
	told("deleted", gone, err)
}
