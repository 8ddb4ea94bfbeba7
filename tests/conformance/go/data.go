package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func placed(results kgo.ProduceResults) []string {
	var lines []string
	for _, r := range results {
		if r.Err != nil {
			lines = append(lines, problem(r.Err))
		} else {
			lines = append(lines, fmt.Sprintf("%d@%02d", r.Record.Partition, r.Record.Offset))
		}
	}
	sort.Strings(lines)
	return lines
}

func records(topic string, count int, prefix string) []*kgo.Record {
	var all []*kgo.Record
	for i := range count {
		all = append(all, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%s-%d", prefix, i), Partition: int32(i % 2), Timestamp: time.UnixMilli(1_600_000_000_000 + int64(i))})
	}
	return all
}

// produce: every compression and level of acknowledgement, idempotent and not, sizes, headers, what is refused.
func produce() {
	part("compressions")
	inOrder(map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}, func(name string, codec kgo.CompressionCodec) {
		to := topic("go-"+name, 2)
		cl := client(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		told(name, placed(cl.ProduceSync(ctx, records(to, 20, strings.Repeat(name, 4))...)), nil)
		cl.Close()
		told("read", read(to, kgo.ReadUncommitted()), nil)
	})
	part("acknowledgements")
	to := topic("go-acks", 2)
	inOrder(map[string][]kgo.Opt{
		"3 none":   {kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()},
		"2 leader": {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()},
		"1 all":    {kgo.RequiredAcks(kgo.AllISRAcks())},
	}, func(name string, opts []kgo.Opt) {
		cl := client(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err := cl.ProduceSync(ctx, records(to, 4, name)...).FirstErr(); err != nil {
			told(name, nil, err)
		}
		cl.Close()
	})
	until("all there", func() bool { return len(read(to, kgo.ReadUncommitted())) == 12 })
	var values []string
	for _, line := range read(to, kgo.ReadUncommitted()) {
		values = append(values, line[strings.Index(line, "="):])
	}
	sort.Strings(values)
	told("read", values, nil)

	part("shapes and sizes")
	big := topic("go-big", 1, "max.message.bytes", "2000000")
	cl := client(kgo.ProducerBatchMaxBytes(3000000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	told("a million", placed(cl.ProduceSync(ctx, &kgo.Record{Topic: big, Value: make([]byte, 1000000)})), nil)
	told("too much", placed(cl.ProduceSync(ctx, &kgo.Record{Topic: big, Value: make([]byte, 2500000)})), nil)
	told("headers", placed(cl.ProduceSync(ctx, &kgo.Record{Topic: big, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}}})), nil)
	told("no topic", placed(client(kgo.UnknownTopicRetries(1)).ProduceSync(ctx, &kgo.Record{Topic: named("go-ghost")})), nil)
	told("time", placed(cl.ProduceSync(ctx, &kgo.Record{Topic: big, Timestamp: time.Now().Add(3 * time.Hour)})), nil)
	cl.Close()
	for _, line := range read(big, kgo.ReadUncommitted()) {
		fmt.Println(line)
	}
}

// consume: by pattern, by partition and offset, by time, across epochs, beyond the end.
func consume() {
	part("by pattern")
	for i := range 3 {
		cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		must(0, cl.ProduceSync(ctx, records(topic(fmt.Sprintf("go-many-%d", i), 2), 4, fmt.Sprint(i))...).FirstErr())
		cl.Close()
	}
	reader := client(kgo.ConsumeRegex(), kgo.ConsumeTopics("^go-many-[01]-"+run+"$"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var lines []string
	for len(lines) < 8 {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) { lines = append(lines, r.Topic+" "+text(r)) })
	}
	sort.Strings(lines)
	told("read", lines, nil)
	reader.Close()

	part("by place")
	name := topic("go-place", 1)
	cl := client()
	for i := range 10 {
		must(0, cl.ProduceSync(ctx, &kgo.Record{Topic: name, Value: fmt.Append(nil, i), Timestamp: time.UnixMilli(1_600_000_000_000 + int64(i)*1000)}).FirstErr())
	}
	inOrder(map[string]kgo.Offset{"at 4": kgo.NewOffset().At(4), "2 before the end": kgo.NewOffset().AtEnd().Relative(-2), "by time": kgo.NewOffset().AfterMilli(1_600_000_006_500), "with epoch": kgo.NewOffset().At(5).WithEpoch(0), "beyond": kgo.NewOffset().At(99)}, func(label string, at kgo.Offset) {
		reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {0: at}}), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var first []string
		for len(first) == 0 && short.Err() == nil {
			fetches := reader.PollFetches(short)
			fetches.EachRecord(func(r *kgo.Record) { first = append(first, text(r)) })
			fetches.EachError(func(_ string, _ int32, err error) { first = append(first, problem(err)) })
		}
		told(label, first[0], nil)
		reader.Close()
	})
	part("sessions, and none")
	for _, opts := range [][]kgo.Opt{{}, {kgo.DisableFetchSessions()}, {kgo.MaxConcurrentFetches(1), kgo.FetchMaxBytes(100)}} {
		reader := client(append(opts, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		count := 0
		for count < 10 {
			count += reader.PollFetches(ctx).NumRecords()
		}
		told("read", count, nil)
		must(0, cl.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte("more"), Timestamp: time.UnixMilli(1_600_000_009_000)}).FirstErr())
		told("then", reader.PollFetches(ctx).NumRecords() > 0, nil)
		reader.Close()
	}
	cl.Close()
}
