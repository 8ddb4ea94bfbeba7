SELECT pair FROM conversions WHERE surplus >= {{ min_surplus }}
