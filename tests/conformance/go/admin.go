package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func p(text string) *string { return &text }

// admin: topics, configs, offsets of logs, records, quotas, SCRAM users, directories, elections, reassignments.
func admin() {
	part("cluster")
	meta, err := adm.BrokerMetadata(ctx)
	told("brokers", []any{len(meta.Brokers), meta.Controller, len(meta.Cluster)}, err)
	part("topics")
	created, err := adm.CreateTopics(ctx, 2, 1, map[string]*string{"retention.ms": p("1000")}, named("go-a"), named("go-b"))
	told("created", created, err)
	created, err = adm.CreateTopics(ctx, 2, 1, nil, named("go-a"), named("go-c"), "bad name")
	told("again", created, err)
	created, err = adm.ValidateCreateTopics(ctx, 1, 3, nil, named("go-d"))
	told("too many replicas", created, err)
	there(named("go-a"), named("go-b"), named("go-c"))
	listed, err := adm.ListTopics(ctx, named("go-a"), named("go-ghost"))
	told("listed", listed, err)
	grown, err := adm.CreatePartitions(ctx, 2, named("go-a"))
	told("two more", grown, err)
	grown, err = adm.UpdatePartitions(ctx, 3, named("go-a"), named("go-ghost"))
	told("three", grown, err)
	removed, err := adm.DeleteTopics(ctx, named("go-b"), named("go-ghost"))
	told("deleted", removed, err)
	until("gone", func() bool { return must(adm.ListTopics(ctx, named("go-b")))[named("go-b")].Err != nil })
	told("left", ours(must(adm.ListTopics(ctx)).Names()), nil)

	part("configs")
	name := named("go-c")
	changed, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: p("5000")}, {Op: kadm.AppendConfig, Name: "cleanup.policy", Value: p("compact")}}, name)
	told("changed", changed, err)
	changed, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: p("x")}}, name, named("go-ghost"))
	told("bad", changed, err)
	until("seen", func() bool {
		for _, c := range must(adm.DescribeTopicConfigs(ctx, name))[0].Configs {
			if c.Key == "retention.ms" {
				return c.MaybeValue() == "5000"
			}
		}
		return false
	})
	described, err := adm.DescribeTopicConfigs(ctx, name)
	slices.SortFunc(described[0].Configs, func(a, b kadm.Config) int { return strings.Compare(a.Key, b.Key) })
	for _, c := range described[0].Configs {
		if c.Source == 1 || c.Key == "segment.bytes" {
			told(c.Key, c, err)
		}
	}
	state, err := adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "segment.bytes", Value: p("2000000")}}, name)
	told("replaced", state, err)
	resources, err := adm.ListConfigResources(ctx, kadm.ConfigResourceTopic)
	count := 0
	for _, r := range resources.Resources {
		if r.Name == name {
			count++
		}
	}
	told("resources", count, err)

	part("offsets and records")
	cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	told("sent", len(placed(cl.ProduceSync(ctx, records(name, 10, "r")...))), nil)
	inOrder(map[string]func() (kadm.ListedOffsets, error){
		"start": func() (kadm.ListedOffsets, error) { return adm.ListStartOffsets(ctx, name) }, "end": func() (kadm.ListedOffsets, error) { return adm.ListEndOffsets(ctx, name) },
		"committed": func() (kadm.ListedOffsets, error) { return adm.ListCommittedOffsets(ctx, name) }, "after": func() (kadm.ListedOffsets, error) { return adm.ListOffsetsAfterMilli(ctx, 1, name) },
		"max": func() (kadm.ListedOffsets, error) { return adm.ListMaxTimestampOffsets(ctx, name) },
	}, func(label string, list func() (kadm.ListedOffsets, error)) {
		found, err := list()
		told(label, found, err)
	})
	var upto kadm.Offsets
	upto.AddOffset(name, 0, 3, -1)
	upto.AddOffset(name, 1, 99, -1)
	cut, err := adm.DeleteRecords(ctx, upto)
	told("cut", cut, err)
	starts, err := adm.ListStartOffsets(ctx, name)
	told("starts", starts, err)
	epochs := kadm.OffsetForLeaderEpochRequest{}
	epochs.Add(name, 0, 0)
	epochs.Add(name, 1, 7)
	ends, err := adm.OffsetForLeaderEpoch(ctx, epochs)
	told("ends of epochs", ends, err)
	dirs, err := adm.DescribeAllLogDirs(ctx, kadm.TopicsSet{name: {0: {}, 1: {}}})
	told("directories", len(dirs[1]), err)

	part("users and quotas")
	users, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: named("u"), Mechanism: kadm.ScramSha256, Iterations: 5000, Password: "secret"}, {User: named("v"), Mechanism: kadm.ScramSha512, Iterations: 6000, Password: "secret"}})
	told("users", users, err)
	until("user", func() bool { return len(must(adm.DescribeUserSCRAMs(ctx, named("v")))[named("v")].CredInfos) == 1 })
	found, err := adm.DescribeUserSCRAMs(ctx, named("u"), named("v"))
	told("described", found, err)
	users, err = adm.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: named("u"), Mechanism: kadm.ScramSha256}, {User: named("v"), Mechanism: kadm.ScramSha512}}, nil)
	told("deleted", users, err)
	entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: p(named("c"))}}
	quotas, err := adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 2048}, {Key: "request_percentage", Value: 1.5}}}})
	told("quotas", quotas, err)
	asked := []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchName: p(named("c")), MatchType: 0}}
	until("quotas", func() bool { return len(must(adm.DescribeClientQuotas(ctx, true, asked))) == 1 })
	shownQuotas, err := adm.DescribeClientQuotas(ctx, true, asked)
	told("described", shownQuotas, err)
	quotas, err = adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Remove: true}, {Key: "request_percentage", Remove: true}}}})
	told("removed", quotas, err)

	part("leaders and replicas")
	elected, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{name: {0: {}}})
	told("elected", elected, err)
	var move kadm.AlterPartitionAssignmentsReq
	move.Assign(name, 0, []int32{1})
	move.Assign(name, 1, []int32{9})
	moved, err := adm.AlterPartitionAssignments(ctx, move)
	told("moved", moved, err)
	moving, err := adm.ListPartitionReassignments(ctx, nil)
	told("moving", len(moving), err)
	coordinators := adm.FindGroupCoordinators(ctx, named("go-group"))
	for _, c := range coordinators {
		fmt.Println("coordinator", c.NodeID, c.Err)
	}
	updated, err := adm.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "nonsense.version", MaxVersionLevel: 1, UpgradeType: 1})
	told("feature", updated, err)
}

// acls: created, described and deleted as kadm has it.
func acls() {
	alice, bob := "User:go-alice-"+run, "User:go-bob-"+run
	all := kadm.NewACLs().AnyResource().Allow(alice).AllowHosts().Deny(bob).DenyHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternAny)
	part("create")
	created, err := adm.CreateACLs(ctx, kadm.NewACLs().Topics(named("go-t")).Groups(named("go-g")).TransactionalIDs(named("go-x")).Clusters().Allow(alice).AllowHosts("*", "10.0.0.1").Operations(kadm.OpDescribe, kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral))
	told("literal", created, err)
	created, err = adm.CreateACLs(ctx, kadm.NewACLs().Topics("go-").Deny(bob).DenyHosts().Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternPrefixed))
	told("prefixed", created, err)
	part("describe")
	until("created", func() bool {
		count := 0
		for _, of := range must(adm.DescribeACLs(ctx, all)) {
			count += len(of.Described)
		}
		return count == 17
	})
	inOrder(map[string]*kadm.ACLBuilder{
		"topic":     kadm.NewACLs().Topics(named("go-t")).Allow(alice).AllowHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternLiteral),
		"match":     kadm.NewACLs().Topics(named("go-t")).Allow(alice).AllowHosts().Deny(bob).DenyHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternMatch),
		"anything":  all,
		"one host":  kadm.NewACLs().AnyResource().Allow(alice).AllowHosts("10.0.0.1").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternAny),
		"the other": kadm.NewACLs().AnyResource().Allow(bob).AllowHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternAny),
	}, func(label string, filter *kadm.ACLBuilder) {
		found, err := adm.DescribeACLs(ctx, filter)
		told(label, found, err)
	})
	part("delete")
	for _, builder := range []*kadm.ACLBuilder{
		kadm.NewACLs().Topics(named("go-t")).Allow(alice).AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral),
		all,
	} {
		gone, err := adm.DeleteACLs(ctx, builder)
		told("deleted", gone, err)
	}
}
