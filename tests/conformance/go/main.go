// Cases with franz-go: kgo, the client, and kadm, the administrator's. One case a run, by its name; see ../run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	run       = os.Getenv("RUN")
	ctx, _    = context.WithTimeout(context.Background(), 100*time.Second)
	adm       = kadm.NewClient(client())
)

func main() {
	cases := map[string]func(){"produce": produce, "consume": consume, "groups": groups, "transactions": transactions, "admin": admin, "acls": acls}
	chosen, known := cases[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "no such case:", os.Args[1])
		os.Exit(2)
	}
	chosen()
}

// inOrder does something with each entry of a map, by its key.
func inOrder[T any](entries map[string]T, do func(string, T)) {
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		do(key, entries[key])
	}
}

// named gives a name that no other run uses.
func named(name string) string { return name + "-" + run }

func part(title string) { fmt.Println("==", title) }

// must ends the case: what failed is not what is compared.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func client(opts ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.ProducerLinger(0), kgo.RetryTimeout(20 * time.Second)}, opts...)...))
}

// topic creates a topic of this run and waits until metadata shows it.
func topic(name string, partitions int32, configs ...string) string {
	full, set := named(name), map[string]*string{}
	for i := 0; i+1 < len(configs); i += 2 {
		set[configs[i]] = &configs[i+1]
	}
	must(adm.CreateTopic(ctx, partitions, 1, set, full))
	there(full)
	return full
}

func there(names ...string) {
	until("there: "+fmt.Sprint(names), func() bool {
		for _, t := range must(adm.ListTopics(ctx, names...)) {
			if t.Err != nil || len(t.Partitions) == 0 {
				return false
			}
			for _, p := range t.Partitions {
				if p.Err != nil || p.Leader < 0 {
					return false
				}
			}
		}
		return true
	})
}

func until(what string, condition func() bool) {
	for deadline := time.Now().Add(40 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic("in vain: " + what)
		}
	}
}

// told prints what a call gave, or its error.
func told(label string, value any, err error) {
	if err != nil {
		fmt.Println(label+":", problem(err))
		return
	}
	fmt.Println(label+":", shown(value))
}

func problem(err error) string {
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return strings.SplitN(err.Error(), ":", 2)[0]
}

// hidden are the fields that differ from run to run.
var hidden = map[string]bool{"ID": true, "ProducerID": true, "ProducerEpoch": false, "MemberID": true, "LastTimestamp": true, "StartTimestamp": true, "Port": true,
	"Topic ID": true, "TopicID": true, "UserDataOwner": true, "Raw": true, "AssignedRaw": true, "Size": true, "Dir": true, "UsableBytes": true, "TotalBytes": true, "Coordinator": true,
	"Join": true, "Assigned": true, "Salt": true, "SaltedPassword": true, "Timestamp": true, "UnknownTags": true, "ErrMessage": true, "Description": true, "CoordinatorEpoch": false}

// shown is a value as JSON, in an order of its own and without what differs from run to run.
func shown(value any) string {
	if text, is := value.(string); is {
		return text
	}
	var plain any
	if err := json.Unmarshal(must(json.Marshal(value)), &plain); err != nil {
		panic(err)
	}
	return string(must(json.Marshal(stripped(plain))))
}

func stripped(value any) any {
	switch v := value.(type) {
	case map[string]any:
		if message, is := v["Message"].(string); is && v["Code"] != nil {
			return message
		}
		for key := range v {
			if hidden[key] {
				delete(v, key)
			} else {
				v[key] = stripped(v[key])
			}
		}
	case []any:
		for i := range v {
			v[i] = stripped(v[i])
		}
		sort.SliceStable(v, func(i, j int) bool { return string(must(json.Marshal(v[i]))) < string(must(json.Marshal(v[j]))) })
	}
	return value
}

func text(r *kgo.Record) string {
	value := string(r.Value)
	if len(value) > 40 {
		value = fmt.Sprintf("%d bytes", len(value))
	}
	line := fmt.Sprintf("%d@%d %s=%s", r.Partition, r.Offset, r.Key, value)
	for _, h := range r.Headers {
		line += fmt.Sprintf(" %s:%s", h.Key, h.Value)
	}
	return line
}

// read gives count records of a topic from its beginning, or all up to its end as the isolation has it.
func read(name string, isolation kgo.IsolationLevel) []string {
	list := adm.ListEndOffsets
	if isolation == kgo.ReadCommitted() {
		list = adm.ListCommittedOffsets
	}
	ends := must(list(ctx, name))
	reader := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(), kgo.FetchMaxWait(200*time.Millisecond))
	defer reader.Close()
	var lines []string
	left := 0
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left++
		}
	})
	for left > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			panic(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				lines = append(lines, text(r))
			}
			if end, _ := ends.Lookup(r.Topic, r.Partition); r.Offset == end.Offset-1 {
				left--
			}
		})
	}
	sort.Strings(lines)
	return lines
}

// ours keeps the entries that belong to this run.
func ours(names []string) []string {
	var kept []string
	for _, name := range names {
		if strings.HasSuffix(name, run) {
			kept = append(kept, name)
		}
	}
	sort.Strings(kept)
	return kept
}
