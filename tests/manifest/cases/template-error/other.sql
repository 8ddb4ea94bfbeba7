SELECT 1
FROM {% if %} x
