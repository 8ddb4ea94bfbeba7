//! Administration: topics, partitions, configs, and what there is to say about a cluster of one node. What a client may do
//! has been judged before a request comes here.

pub mod cluster;
pub mod configs;
pub mod features;
pub mod replicas;
pub mod topics;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::NODE;
use super::configs::Refused;

/// What Kafka's own descriptions of its codes say where it says no more.
const NO_SUCH_PARTITION: &str = "there is no such topic or partition here";

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The code and message of an outcome: 0 and none when all is well.
fn told(outcome: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (0, None),
        Err(refused) => (refused.error.code(), Some(text(refused.message))),
    }
}

fn storage_failed() -> Refused {
    Refused::new(ResponseError::KafkaStorageError, "The broker could not write to its disk.")
}

/// Whether a partition can be where a client wants it: on this node, once.
fn check_replicas(replicas: &[BrokerId]) -> Result<(), Refused> {
    let refuse = |message: String| Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    match replicas {
        [] => refuse("The partition's list of replicas is empty.".to_owned()),
        [BrokerId(NODE)] => Ok(()),
        _ => match replicas.iter().find(|replica| replica.0 != NODE) {
            Some(other) => {
                refuse(format!("There is no broker {} to replicate the partition to: {NODE} is the only one.", other.0))
            }
            None => refuse(format!("The partition's list of replicas has broker {NODE} more than once.")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_on_this_node_once() {
        let told = |replicas: &[i32]| {
            let replicas: Vec<BrokerId> = replicas.iter().map(|id| BrokerId(*id)).collect();
            check_replicas(&replicas).map_err(|refused| {
                assert_eq!(refused.error, ResponseError::InvalidReplicaAssignment);
                refused.message
            })
        };
        assert_eq!(told(&[1]), Ok(()));
        assert_eq!(told(&[]), Err("The partition's list of replicas is empty.".to_owned()));
        assert_eq!(told(&[1, 1]), Err("The partition's list of replicas has broker 1 more than once.".to_owned()));
        for replicas in [[2, 1], [1, 2]] {
            let message = "There is no broker 2 to replicate the partition to: 1 is the only one.".to_owned();
            assert_eq!(told(&replicas), Err(message));
        }
    }
}
