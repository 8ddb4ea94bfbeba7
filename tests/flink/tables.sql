CREATE TABLE orders (order_id BIGINT, customer_id STRING, product STRING, amount DOUBLE, quantity INT,
  rowtime TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, WATERMARK FOR rowtime AS rowtime - INTERVAL '5.001' SECOND(1, 3))
WITH ('connector' = 'kafka', 'topic' = 'plain.orders', 'properties.bootstrap.servers' = 'BOOTSTRAP', 'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset', 'scan.watermark.emit.strategy' = 'on-event', 'format' = 'json');
CREATE TABLE payments (payment_id BIGINT, order_id BIGINT, channel STRING, paid DOUBLE,
  rowtime TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, WATERMARK FOR rowtime AS rowtime - INTERVAL '5.001' SECOND(1, 3))
WITH ('connector' = 'kafka', 'topic' = 'plain.payments', 'properties.bootstrap.servers' = 'BOOTSTRAP', 'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset', 'scan.watermark.emit.strategy' = 'on-event', 'format' = 'json');
CREATE TABLE prices (product STRING, price DOUBLE,
  rowtime TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, WATERMARK FOR rowtime AS rowtime - INTERVAL '0.001' SECOND(1, 3), PRIMARY KEY (product) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'plain.prices', 'properties.bootstrap.servers' = 'BOOTSTRAP',
  'scan.bounded.mode' = 'latest-offset', 'key.format' = 'raw', 'value.format' = 'json');
CREATE TABLE customers (customer_id STRING, region_id STRING, name STRING, tier INT, PRIMARY KEY (customer_id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'plain.customers', 'properties.bootstrap.servers' = 'BOOTSTRAP',
  'scan.bounded.mode' = 'latest-offset', 'key.format' = 'raw', 'value.format' = 'json');
CREATE TABLE profiles (customer_id STRING, email STRING, score DOUBLE, PRIMARY KEY (customer_id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'plain.profiles', 'properties.bootstrap.servers' = 'BOOTSTRAP',
  'scan.bounded.mode' = 'latest-offset', 'key.format' = 'raw', 'value.format' = 'json');
CREATE TABLE regions (region_id STRING, title STRING, manager STRING, PRIMARY KEY (region_id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'plain.regions', 'properties.bootstrap.servers' = 'BOOTSTRAP',
  'scan.bounded.mode' = 'latest-offset', 'key.format' = 'raw', 'value.format' = 'json');
