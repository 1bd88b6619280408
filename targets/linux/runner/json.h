// The little of JSON that a result needs: objects and arrays of numbers and texts, written as text.
#pragma once

#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace json {

inline std::string text(const std::string& value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// JSON has neither infinities nor NaN: null says that a number is not known.
inline std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  return digits;
}

inline std::string number(const std::optional<double>& value) {
  return value ? number(*value) : "null";
}

inline std::string boolean(bool value) { return value ? "true" : "false"; }

inline std::string array(const std::vector<std::string>& items) {
  std::string out = "[";
  for (size_t i = 0; i < items.size(); ++i) out += (i ? ", " : "") + items[i];
  return out + "]";
}

template <typename T>
std::string numbers(const std::vector<T>& values) {
  std::vector<std::string> items;
  for (const T& value : values) items.push_back(number(static_cast<double>(value)));
  return array(items);
}

// Keys are ours and need no escapes; values are JSON already.
class Object {
 public:
  Object& add(const char* key, const std::string& value) {
    body_ += (body_.empty() ? "\"" : ", \"") + std::string(key) + "\": " + value;
    return *this;
  }
  std::string str() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};

}  // namespace json
