//! Sources: where records enter that no other program writes to Kafka.

pub mod replay;
