SELECT 1
FROM x WHERE y > {{ nothing.at.all }}
