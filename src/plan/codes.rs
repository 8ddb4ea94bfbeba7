//! The codes of binding and planning: M06xx.

use crate::model::diagnostic::{Code, CodeDoc};

pub const UNBOUND: Code = Code("M0601");
pub const BREAKS_DOWNSTREAM: Code = Code("M0602");
pub const CYCLE: Code = Code("M0603");
pub const UNFULFILLED: Code = Code("M0605");
pub const NOT_INFERABLE: Code = Code("M0608");
pub const TESTS_FAIL: Code = Code("M0609");
pub const NOT_OURS: Code = Code("M0611");
pub const OTHERS: Code = Code("M0612");
pub const UNSEEN: Code = Code("M0613");
pub const OWN_TOPIC: Code = Code("M0614");
pub const WRONG_CLUSTER: Code = Code("M0615");
pub const UNREADABLE_ENTRY: Code = Code("M0616");
pub const FEWER_PARTITIONS: Code = Code("M0621");
pub const REPLICATION_CHANGE: Code = Code("M0622");
pub const REPLICATION_ABOVE_BROKERS: Code = Code("M0623");
pub const UNKNOWN_CONFIG: Code = Code("M0624");
pub const REFUSED: Code = Code("M0625");
pub const INCOMPATIBLE: Code = Code("M0631");
pub const TAKES_AWAY: Code = Code("M0632");
pub const NOT_COMPARABLE: Code = Code("M0633");
pub const REVERTED: Code = Code("M0634");
pub const UNCHECKED: Code = Code("M0635");
pub const REPLAY_OLDER_THAN_RETENTION: Code = Code("M0641");
pub const MIN_INSYNC: Code = Code("M0642");
pub const FADING_INPUT: Code = Code("M0643");
pub const OTHER_ROOT: Code = Code("M0644");

const fn doc(code: Code, title: &'static str, explanation: &'static str) -> CodeDoc {
    CodeDoc { code, title, explanation }
}

/// All of them.
pub const ALL: &[CodeDoc] = &[
    doc(
        UNBOUND,
        "product can't be understood",
        "Its query or its schema has errors, so nothing of the product is planned. The diagnostics at its places say what to correct; the other products are planned as usual.",
    ),
    doc(
        BREAKS_DOWNSTREAM,
        "a change breaks derivations downstream",
        "A derivation reads what its input no longer offers: a column that was removed, renamed or retyped. The finding names the derivation and all that reads it, with owners and channels. Keep the column, or change the queries first.",
    ),
    doc(
        CYCLE,
        "derivations read each other in a circle",
        "A derivation may not read its own result, not even through others. Break the circle at one of the products that the message names.",
    ),
    doc(
        UNFULFILLED,
        "the query does not fulfil the contract",
        "The result of the SQL must have every column that the declared schema requires, of a type that fits, and none that the schema does not allow. Change the query, or the schema.",
    ),
    doc(
        NOT_INFERABLE,
        "schema can't be inferred",
        "The query's result has a type that the schema format can't express. Cast the column, or declare a schema with spec.schema.file.",
    ),
    doc(
        TESTS_FAIL,
        "the product's own tests fail",
        "A derivation whose tests fail does not do what its manifest says, so nothing of the product is planned. `mesh test` shows each row and column that differs. Mend the query, or the tests; `--no-tests` plans without running them.",
    ),
    doc(
        NOT_OURS,
        "it exists and is not mesh's",
        "mesh changes only what it has created or was told to adopt. Write `adopt: true` into the product's spec to take the topic or subject over, or choose another name.",
    ),
    doc(
        OTHERS,
        "it belongs to another product",
        "The catalog says that another product owns this topic or subject. Choose another name, or delete that product first.",
    ),
    doc(
        UNSEEN,
        "it can't be described",
        "The cluster or the registry did not let mesh look at it. What can't be seen is not changed: grant the right to describe it.",
    ),
    doc(
        OWN_TOPIC,
        "mesh's own topic is not usable",
        "mesh keeps its records in a topic with one partition and cleanup.policy compact. The one that exists is different.",
    ),
    doc(
        WRONG_CLUSTER,
        "another cluster",
        "The Environment's safety.cluster_id names the only cluster that it may be applied to.",
    ),
    doc(
        UNREADABLE_ENTRY,
        "catalog entry can't be read",
        "A later version of mesh wrote it, or another program. It is not touched.",
    ),
    doc(
        FEWER_PARTITIONS,
        "fewer partitions",
        "Kafka can't take partitions away, and mesh never deletes and recreates a topic. Declare as many as there are, or write the records into a new topic.",
    ),
    doc(
        REPLICATION_CHANGE,
        "replication changes",
        "Another replication factor means to reassign partitions, which is not carried out yet. Declare what exists, or reassign with Kafka's own tool.",
    ),
    doc(REPLICATION_ABOVE_BROKERS, "replication above the number of brokers", "Every replica needs a broker of its own."),
    doc(
        UNKNOWN_CONFIG,
        "unknown topic config",
        "The cluster does not know a topic config of this name; `kafka-configs --describe --all` lists those it knows.",
    ),
    doc(
        REFUSED,
        "the cluster would refuse it",
        "The cluster was asked to check the change without doing it, and said no for the reason given.",
    ),
    doc(
        INCOMPATIBLE,
        "incompatible schema",
        "The new schema can't read what was written with earlier ones, or they can't read what it writes, as the compatibility level asks. Each reason stands with its field. Give new fields defaults, keep old ones, or choose a new topic for a new contract.",
    ),
    doc(
        TAKES_AWAY,
        "contract takes away what is read downstream",
        "The registered schema has columns that the new one lacks, and a derivation that reads the product can no longer be bound. Neither is applied: change the query first.",
    ),
    doc(
        NOT_COMPARABLE,
        "registered schema can't be compared",
        "A registered version is of another format or can't be parsed, so its compatibility can't be told. A level of NONE would accept the change.",
    ),
    doc(
        REVERTED,
        "schema is an earlier version again",
        "The declared schema is registered, but not as the latest version. Registries do not register it again, so producers use the earlier id; the latest stays what it is.",
    ),
    doc(UNCHECKED, "compatibility NONE", "With level NONE nothing is checked. The plan shows what BACKWARD would have said."),
    doc(
        REPLAY_OLDER_THAN_RETENTION,
        "replayed records are older than the topic keeps",
        "Retention works by the records' own times. Records older than retention.ms vanish soon after they are written. Set `config: {retention.ms: -1}`.",
    ),
    doc(MIN_INSYNC, "min.insync.replicas above replication", "Producers that wait for all replicas could never write."),
    doc(
        FADING_INPUT,
        "input is deprecated or retired",
        "The derivation reads a product whose lifecycle says that it will go away.",
    ),
    doc(
        OTHER_ROOT,
        "applied from another place before",
        "Products are pruned only by the manifests that applied them last. Applying one file and then the whole folder moves a product between roots.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let codes: Vec<&str> = ALL.iter().map(|doc| doc.code.0).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
    }
}
