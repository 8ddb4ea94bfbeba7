#!/usr/bin/env bash
# Each of Kafka's tools once as a program of its own, as people call them; what they can do in all is asked by the files beside.
set -uo pipefail
topic=tools-plain-$RUN

# tool NAME CLASS arguments..: what it prints, and how it ended.
tool() {
  local class=$1
  shift
  echo "> ${class##*.} $*"
  timeout 40 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx128m -Xshare:auto -Dorg.slf4j.simpleLogger.defaultLogLevel=off \
    -cp "$KAFKA_LIB/*" "$class" "$@" 2>&1 || echo "exit $?"
}
of() { local class=$1; shift; tool "org.apache.kafka.tools.$class" --bootstrap-server "$BOOTSTRAP" "$@"; }

of TopicCommand --create --topic "$topic"
tool kafka.admin.ConfigCommand --bootstrap-server "$BOOTSTRAP" --alter --entity-type topics --entity-name "$topic" --add-config retention.ms=86400000
of AclCommand --add --allow-principal "User:plain-$RUN" --operation Read --topic "$topic" | grep -v '^$'
of AclCommand --remove --force --topic "$topic"
printf 'a:1\nb:2\nc:3\n' | of ConsoleProducer --topic "$topic" --reader-property parse.key=true --reader-property key.separator=:
of consumer.ConsoleConsumer --topic "$topic" --from-beginning --max-messages 3 --group "$topic" --formatter-property print.key=true
of consumer.group.ConsumerGroupCommand --describe --group "$topic" | grep . | tr -s ' '
of GroupsCommand --list | grep "$RUN" | tr -s ' '
of VerifiableProducer --topic "$topic" --max-messages 4 | sed 's/"timestamp":[0-9]*,//; /tool_data/d'
of VerifiableConsumer --topic "$topic" --group-id "verify-$RUN" --max-messages 7 --reset-policy earliest | grep -o '"name":"records_consumed","count":[0-9]*\|"name":"shutdown_complete"'
of GetOffsetShell --topic "$topic"
echo '{"version":1,"partitions":[{"topic":"'"$topic"'","partition":0,"offset":2}]}' >"$WORK/delete.json"
of DeleteRecordsCommand --offset-json-file "$WORK/delete.json"
of LogDirsCommand --describe --topic-list "$topic" | grep -o '"offsetLag":[0-9]*'
of TransactionsCommand describe-producers --topic "$topic" --partition 0 | wc -l
of ProducerPerformance --topic "$topic" --num-records 500 --record-size 50 --throughput -1 | sed -n 's/ records sent.*/ records sent/p'
of ConsumerPerformance --topic "$topic" --num-records 500 --hide-header | wc -l
of LeaderElectionCommand --election-type preferred --topic "$topic" --partition 0
of reassign.ReassignPartitionsCommand --list
of BrokerApiVersionsCommand | grep -c usable >/dev/null && echo "versions are told"
of ClientMetricsCommand --list | wc -l
of FeatureCommand describe | grep -o 'transaction.version.*FinalizedVersionLevel: [0-9]*' | tr -s ' '
of MetadataQuorumCommand describe --status | grep LeaderId
of TopicCommand --delete --topic "$topic"
