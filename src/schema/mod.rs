//! What an Avro, JSON Schema or Protobuf text means.
